"""wireguard: interfaces of WireGuard, their keys and peers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.generic import FAMILIES, family_number
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.wireguard import FAMILY, Device, Peer, parse_device, request
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, why
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.link_answers import CLASS_NET, interface_names

_HIDDEN = "(hidden: --secrets shows it)"
_KIND = b"DEVTYPE=wireguard"


class Wireguard(Tool):
    name = "wireguard"
    help = "WireGuard interfaces and peers: keys, endpoints, allowed addresses, last handshakes"
    notes = (
        "Asks the snapshot's kernel by generic netlink, as `wg show all dump` does. Private and preshared "
        "keys are "
        "shown with --secrets only. One network namespace is shown, that of process 1: `--ns-of PID` shows "
        "another's."
    )
    options = (Option("secrets", bool, "also private and preshared keys"),)
    columns = (
        Column("IFACE", "str", "interface"),
        Column("PUBLIC", "str", "public key: of the interface, or in the rows of peers the peer's"),
        Column("PRIVATE", "str", "private key of the interface"),
        Column("PORT", "int", "UDP port on which it listens"),
        Column("FWMARK", "hex", "mark of the packets that it sends"),
        Column("PRESHARED", "str", "key that is shared with the peer"),
        Column("ENDPOINT", "str", "where the peer was last seen, or is expected"),
        Column("ALLOWED", "str", "addresses behind the peer"),
        Column("HANDSHAKE", "time", "the last one; none: there was none"),
        Column("RECEIVED", "int", "bytes from the peer"),
        Column("SENT", "int", "bytes to the peer"),
        Column("KEEPALIVE", "int", "seconds between packets that keep the way open"),
    )
    moments = (Moment("HANDSHAKE", "created", "last handshake with a peer"),)
    moment_text = ("IFACE", "PUBLIC", "ENDPOINT", "ALLOWED")

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        interfaces = []
        names = attempt(CLASS_NET, lambda: interface_names(kernel))
        if isinstance(names, Unavailable):
            yield Row((names,) * len(self.columns))
            return
        for name in names:
            kind = attempt(f"{CLASS_NET}/{name}/uevent", partial(_is_wireguard, kernel, name))
            if isinstance(kind, Unavailable):
                yield Row((name, *[kind] * (len(self.columns) - 1)))
            elif kind:
                interfaces.append(name)
        if not interfaces:
            return
        try:
            family = family_number(kernel.netlink.dump(FAMILIES), FAMILY)
        except UNREADABLE as error:
            yield Row((why(FAMILIES.source, error),) * len(self.columns))
            return
        for name in interfaces:
            yield from self._interface(kernel, name, family, bool(options["secrets"]))

    def _interface(self, kernel: GuestKernel, name: str, family: int | None, secrets: bool) -> Iterator[Row]:
        if family is None:
            yield Row((name, *[Unavailable("genetlink: no family wireguard")] * (len(self.columns) - 1)))
            return
        asked = request(family, name)
        try:
            data = kernel.netlink.dump(asked)
        except UNREADABLE as error:
            yield Row((name, *[why(asked.source, error)] * (len(self.columns) - 1)))
            return
        is_first = True
        for device, source in parsed(asked.source, (family,), data, parse_device):
            if isinstance(device, ParseError):
                yield Row((name, *[Unavailable(str(device))] * (len(self.columns) - 1)), sources=(source,))
                continue
            if is_first:
                yield Row(_device_cells(device, secrets), sources=(source,))
                is_first = False
            yield from (Row(_peer_cells(name, peer, secrets), sources=(source,)) for peer in device.peers)


def _is_wireguard(kernel: GuestKernel, name: str) -> bool:
    return _KIND in kernel.files.read(f"{CLASS_NET}/{name}/uevent").splitlines()


def _secret(key: str | None, secrets: bool) -> str | None:
    return key if key is None or secrets else _HIDDEN


def _device_cells(one: Device, secrets: bool) -> tuple[Cell, ...]:
    return (
        one.name, one.public_key, _secret(one.private_key, secrets), one.port or None, one.fwmark or None,
        *[None] * 7,
    )  # fmt: skip


def _peer_cells(name: str, one: Peer, secrets: bool) -> tuple[Cell, ...]:
    endpoint = None if one.endpoint is None else one.endpoint.text
    return (
        name, one.public_key, None, None, None, _secret(one.preshared_key, secrets), endpoint,
        " ".join(one.allowed) or None, one.handshake, one.received, one.sent, one.keepalive or None,
    )  # fmt: skip


TOOL = Wireguard()
