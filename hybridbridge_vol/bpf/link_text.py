"""Where a link attaches its program, from struct bpf_link_info (include/uapi/linux/bpf.h, 5.10 to 7.2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from hybridbridge_vol.bpf import objects as bpf
from hybridbridge_vol.bpf.names import ATTACH_TYPES, PERF_EVENT_KINDS, name_of
from hybridbridge_vol.procfs.pid import text

_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_FAMILIES = {0: "unspec", 1: "inet", 2: "ipv4", 3: "arp", 5: "netdev", 7: "bridge", 10: "ipv6"}


class Names(NamedTuple):
    """What a link names by number: an interface, a control group by its id, a function by object and type of
    BTF, a symbol by its address."""

    interface: Callable[[int], str]
    cgroup: Callable[[int], str]
    function: Callable[[int, int], str]
    symbol: Callable[[int], str]


class Attached(NamedTuple):
    """`how` is the kind of attachment, `where` what it is attached to."""

    how: str
    where: str


def link_attached(link: bpf.Link, where: bytes | None, names: Names) -> Attached:
    """`where` is the name, or the addresses, that the link's structure points to."""
    maker = _MAKERS.get(link.type)
    if maker is None:
        return Attached("", f"[{link.data[16:].hex()}]")
    return maker(link.data, where or b"", names)


def _raw_tracepoint(_data: bytes, where: bytes, _names: Names) -> Attached:
    return Attached("raw_tracepoint", text(where))


def _tracing(data: bytes, _where: bytes, names: Names) -> Attached:
    kind, obj, number = struct.unpack_from("<III", data, 16)
    return Attached(name_of(kind, ATTACH_TYPES), names.function(obj, number))


def _cgroup(data: bytes, _where: bytes, names: Names) -> Attached:
    number, kind = struct.unpack_from("<QI", data, 16)
    return Attached(name_of(kind, ATTACH_TYPES), names.cgroup(number))


def _iter(_data: bytes, where: bytes, _names: Names) -> Attached:
    return Attached("trace_iter", text(where))


def _netns(data: bytes, _where: bytes, _names: Names) -> Attached:
    number, kind = struct.unpack_from("<II", data, 16)
    return Attached(name_of(kind, ATTACH_TYPES), f"net:[{number}]")


def _interface(how: str) -> Callable[[bytes, bytes, Names], Attached]:
    def maker(data: bytes, _where: bytes, names: Names) -> Attached:
        ifindex, kind = struct.unpack_from("<II", data, 16)
        return Attached(how or name_of(kind, ATTACH_TYPES), names.interface(ifindex))

    return maker


def _perf_event(data: bytes, where: bytes, _names: Names) -> Attached:
    (kind,) = struct.unpack_from("<I", data, 16)
    if not kind:  # before 6.6 the kernel does not say more
        return Attached("perf_event", "")
    how = name_of(kind, PERF_EVENT_KINDS)
    if kind == bpf.PERF_EVENT:
        config, event = struct.unpack_from("<QI", data, 24)
        return Attached(how, f"type {event} config {config:#x}")
    offset = 0 if kind == bpf.PERF_TRACEPOINT else struct.unpack_from("<I", data, 36)[0]
    return Attached(how, text(where) + (f"+{offset:#x}" if offset else ""))


def _kprobe_multi(data: bytes, where: bytes, names: Names) -> Attached:
    count, flags = struct.unpack_from("<II", data, 24)
    addresses = struct.unpack(f"<{len(where) // 8}Q", where[: len(where) // 8 * 8])
    how = "kretprobe_multi" if flags & 1 else "kprobe_multi"
    found = " ".join(names.symbol(vaddr) for vaddr in addresses[:count])
    return Attached(how, found or f"{count} functions")


def _uprobe_multi(data: bytes, where: bytes, _names: Names) -> Attached:
    count, flags, pid = struct.unpack_from("<III", data, 52)
    how = "uretprobe_multi" if flags & 1 else "uprobe_multi"
    return Attached(how, f"{text(where)} at {count} places" + (f" of process {pid}" if pid else ""))


def _netfilter(data: bytes, _where: bytes, _names: Names) -> Attached:
    family, hook, priority = struct.unpack_from("<IIi", data, 16)
    name = _HOOKS[hook] if hook < len(_HOOKS) else str(hook)
    return Attached("netfilter", f"{_FAMILIES.get(family, family)} {name} prio {priority}")


def _struct_ops(data: bytes, _where: bytes, _names: Names) -> Attached:
    return Attached("struct_ops", f"map {struct.unpack_from('<I', data, 16)[0]}")


def _sockmap(data: bytes, _where: bytes, _names: Names) -> Attached:
    number, kind = struct.unpack_from("<II", data, 16)
    return Attached(name_of(kind, ATTACH_TYPES), f"map {number}")


_MAKERS: dict[int, Callable[[bytes, bytes, Names], Attached]] = {
    bpf.LINK_RAW_TRACEPOINT: _raw_tracepoint,
    bpf.LINK_TRACING: _tracing,
    bpf.LINK_CGROUP: _cgroup,
    bpf.LINK_ITER: _iter,
    bpf.LINK_NETNS: _netns,
    bpf.LINK_XDP: _interface("xdp"),
    bpf.LINK_PERF_EVENT: _perf_event,
    bpf.LINK_KPROBE_MULTI: _kprobe_multi,
    bpf.LINK_STRUCT_OPS: _struct_ops,
    bpf.LINK_NETFILTER: _netfilter,
    bpf.LINK_TCX: _interface(""),
    bpf.LINK_UPROBE_MULTI: _uprobe_multi,
    bpf.LINK_NETKIT: _interface(""),
    bpf.LINK_SOCKMAP: _sockmap,
}
