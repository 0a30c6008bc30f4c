"""Handlers of packets: netfilter hooks, packet types, transport protocols, families of sockets.

Sources: net/netfilter/core.c, net/core/dev.c, net/ipv4/protocol.c, net/ipv4/af_inet.c, net/core/sock.c
(Linux 5.10 to 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, Lost, Operations, each

_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "brouting")
"""NF_INET_* and NF_BR_* (include/uapi/linux/netfilter.h, netfilter_bridge.h)."""
_ARP_HOOKS = ("in", "out", "forward")
_PROTOCOLS = 256
"""MAX_INET_PROTOS."""
_LISTS = 16
"""PTYPE_HASH_SIZE."""
_SOCKET_TYPES = 11
"""SOCK_MAX."""
_FAMILIES = 48
"""More than AF_MAX: as many as the symbol's size says."""
MAX_HOOKS = 1024
"""MAX_HOOK_COUNT, net/netfilter/core.c."""


class Network:
    """The network of one snapshot."""

    def __init__(self, memory: TypedMemory) -> None:
        self._memory = memory

    def _nets(self) -> Iterator[int]:
        return self._memory.list(self._memory.ring("net_namespace_list"), "net", "list")

    def _devices(self, net: int) -> Iterator[int]:
        memory = self._memory
        return memory.list(memory.at(net, "net", "dev_base_head"), "net_device", "dev_list")

    def _of(self, net: int) -> str:
        if net == self._memory.symbol("init_net"):
            return ""
        return f" in net:[{self._memory.get(net, 'net', 'ns.inum')}]"

    # --- netfilter ----------------------------------------------------------------------------------------

    def netfilter(self) -> Iterator[Found]:
        """The functions of each hook of each network namespace, and of each device."""
        return each(self._nets(), self._netfilter_of)

    def _netfilter_of(self, net: int) -> Iterator[Found]:
        memory = self._memory
        for field in memory.types.members("netns_nf"):
            if not field.name.startswith("hooks_"):
                continue
            family = field.name.removeprefix("hooks_")
            names = _ARP_HOOKS if family == "arp" else _HOOKS
            base = memory.at(net, "net", "nf") + field.offset
            for number in range(memory.types.bytes_of(field.type) // 8):
                hook = names[number] if number < len(names) else str(number)
                entries = memory.word(base + 8 * number)
                yield from self._entries(f"{family} {hook}{self._of(net)}", entries)
        for device in self._devices(net):
            name = memory.name(device, "net_device", "name")
            for way in ("ingress", "egress"):
                if memory.types.has("net_device", f"nf_hooks_{way}"):
                    entries = memory.get(device, "net_device", f"nf_hooks_{way}")
                    yield from self._entries(f"{way} of {name}{self._of(net)}", entries)

    def _entries(self, where: str, entries: int) -> Iterator[Found]:
        if not entries:
            return
        memory = self._memory
        count = min(memory.get(entries, "nf_hook_entries", "num_hook_entries"), MAX_HOOKS)
        first, size = memory.at(entries, "nf_hook_entries", "hooks"), memory.types.size("nf_hook_entry")
        for number in range(count):
            entry = first + number * size
            registered = memory.word(first + count * size + 8 * number)
            priority = ""
            if registered >> 63:
                at = memory.at(registered, "nf_hook_ops", "priority")
                priority = f" priority {memory.number(at, 4, signed=True)}"
            yield Hook(f"{where}{priority}", memory.get(entry, "nf_hook_entry", "hook"), entry)

    # --- packets ------------------------------------------------------------------------------------------

    def packets(self) -> Iterator[Found]:
        """Who receives packets: for all protocols (sniffers), for one, on one device."""
        memory = self._memory
        if memory.has_symbol("ptype_all"):
            yield from self._types("all packets", memory.symbol("ptype_all"))
        elif memory.types.has("net_hotdata", "ptype_all"):  # 6.9 to 6.14
            yield from self._types(
                "all packets", memory.at(memory.symbol("net_hotdata"), "net_hotdata", "ptype_all")
            )
        elif not memory.types.has("net", "ptype_all"):
            yield Lost("this kernel's list of those who receive all packets was not found")
        for number in range(_LISTS):
            yield from self._types("packets", memory.symbol("ptype_base") + 16 * number)
        yield from each(self._nets(), self._packets_of)

    def _packets_of(self, net: int) -> Iterator[Found]:
        memory = self._memory
        for field, what in (("ptype_all", "all packets"), ("ptype_specific", "packets")):
            if memory.types.has("net", field):
                yield from self._types(f"{what}{self._of(net)}", memory.at(net, "net", field))
        for device in self._devices(net):
            name = memory.name(device, "net_device", "name")
            for field, what in (("ptype_all", "all packets"), ("ptype_specific", "packets")):
                head = memory.at(device, "net_device", field)
                yield from self._types(f"{what} of {name}{self._of(net)}", head)
            handler = memory.get(device, "net_device", "rx_handler")
            if handler:
                yield Hook(f"received by {name}{self._of(net)} (rx_handler)", handler, device)
            table = memory.get(device, "net_device", "netdev_ops")
            yield Operations(f"device {name}{self._of(net)}", "net_device_ops", table, device)

    def _types(self, what: str, head: int) -> Iterator[Found]:
        memory = self._memory

        def one(kind: int) -> Iterator[Found]:
            protocol = int.from_bytes(memory.read(memory.at(kind, "packet_type", "type"), 2), "big")
            name = f"{what} of type {protocol:#06x}"
            for field in ("func", "list_func"):
                function = memory.get(kind, "packet_type", field)
                if function:
                    yield Hook(name, function, kind)

        return each(memory.list(head, "packet_type", "list"), one)

    # --- protocols ----------------------------------------------------------------------------------------

    def protocols(self) -> Iterator[Found]:
        """The handlers of transport protocols, the operations of kinds of sockets, of protocols and of
        families."""
        yield from self._transports("inet_protos", "net_protocol", "IPv4")
        if self._memory.has_symbol("inet6_protos"):
            yield from self._transports("inet6_protos", "inet6_protocol", "IPv6")
        for variable in ("inetsw", "inetsw6"):
            if self._memory.has_symbol(variable):
                yield from self._kinds(variable)
        memory = self._memory
        yield from each(memory.list(memory.ring("proto_list"), "proto", "node"), self._protocol)
        yield from self._families()

    def _transports(self, variable: str, struct_name: str, name: str) -> Iterator[Found]:
        memory = self._memory
        table = memory.symbol(variable)

        def one(number: int) -> Iterator[Found]:
            entry = memory.word(table + 8 * number)
            if entry:
                what = f"{name} protocol {number}"
                yield Operations(what, struct_name, entry, table + 8 * number)

        return each(range(_PROTOCOLS), one)

    def _kinds(self, variable: str) -> Iterator[Found]:
        memory = self._memory

        def one(entry: int) -> Iterator[Found]:
            what = (
                f"sockets of type {memory.get(entry, 'inet_protosw', 'type')} "
                f"protocol {memory.get(entry, 'inet_protosw', 'protocol')} ({variable})"
            )
            yield Operations(what, "proto_ops", memory.get(entry, "inet_protosw", "ops"), entry)

        for number in range(_SOCKET_TYPES):
            head = memory.symbol(variable) + 16 * number
            yield from each(memory.list(head, "inet_protosw", "list"), one)

    def _protocol(self, protocol: int) -> Iterator[Found]:
        name = self._memory.name(protocol, "proto", "name")
        yield Operations(f"protocol {name}", "proto", protocol, protocol)

    def _families(self) -> Iterator[Found]:
        memory = self._memory
        table = memory.symbol("net_families")
        count = min(memory.size_of_symbol("net_families") // 8, _FAMILIES)

        def one(number: int) -> Iterator[Found]:
            family = memory.word(table + 8 * number)
            if family:
                create = memory.get(family, "net_proto_family", "create")
                yield Hook(f"socket(2) of family {number}", create, family)

        return each(range(count), one)
