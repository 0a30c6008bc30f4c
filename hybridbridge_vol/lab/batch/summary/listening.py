"""On which ports an image listens, by `lsof`, `netstat` or `ss`, whichever was run and shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hybridbridge_vol.lab.batch.summary.data import Cells, text

EPHEMERAL = range(32768, 61000)
"""Ports that the kernel chooses for a socket that asks for none (ip_local_port_range's default,
net/ipv4/af_inet.c)."""


class ListeningPort(NamedTuple):
    """One listening socket. `port`: decimal digits, or empty. `pid` and `program` are empty where the tool
    does not show them. `source`: the tool."""

    proto: str
    address: str
    port: str
    pid: object
    program: str
    source: str

    @property
    def is_ephemeral(self) -> bool:
        """Whether it is a UDP port that the kernel may have chosen."""
        return self.proto.startswith("udp") and self.port != "" and int(self.port) in EPHEMERAL

    def row(self) -> Cells:
        """The row that the page shows."""
        return {name.upper(): value for name, value in self._asdict().items()}


def listening_ports(tables: Mapping[str, Sequence[Cells]]) -> list[ListeningPort] | None:
    """The listening sockets, in order; None if no tool was run that shows them."""
    reader = _reader(tables)
    if reader is None:
        return None
    distinct = {(port.proto, port.address, port.port, str(port.pid)): port for port in reader}
    return sorted(
        distinct.values(), key=lambda port: (port.proto, int(port.port or 0), port.address, str(port.pid))
    )


def _reader(tables: Mapping[str, Sequence[Cells]]) -> Iterator[ListeningPort] | None:
    if "lsof" in tables:
        return _of_lsof(tables["lsof"])
    readers: tuple[tuple[str, Callable[[Sequence[Cells]], Iterator[ListeningPort]]], ...] = (
        ("netstat", _of_netstat),
        ("ss", _of_ss),
    )
    for tool, reader in readers:  # these show listening sockets only if they were asked to
        if any(text(row, "STATE") == "LISTEN" for row in tables.get(tool, ())):
            return reader(tables[tool])
    return None


def is_local(address: str) -> bool:
    """Whether only the machine itself can connect to this address."""
    return all(  # SCTP has several
        each.strip("[]") in ("::1", "localhost") or each.removeprefix("::ffff:").startswith("127.")
        for each in address.split(",")
    )


def split_port(end: str) -> tuple[str, str]:
    """`0.0.0.0:22` and `[::1]:22` as address and port; the port is empty if it is not a number."""
    address, _, port = end.rpartition(":")
    return address, port if port.isascii() and port.isdecimal() and len(port) <= 5 else ""


def _of_lsof(rows: Sequence[Cells]) -> Iterator[ListeningPort]:
    for row in rows:
        if text(row, "TYPE") not in ("IPv4", "IPv6"):
            continue
        proto, name = text(row, "NODE").lower(), text(row, "NAME")
        if (proto == "tcp" and name.endswith(" (LISTEN)")) or (proto == "udp" and "->" not in name):
            end = split_port(name.removesuffix(" (LISTEN)"))
            yield ListeningPort(proto, *end, row.get("PID"), text(row, "COMMAND"), "lsof")


def _of_netstat(rows: Sequence[Cells]) -> Iterator[ListeningPort]:
    for row in rows:
        proto = text(row, "PROTO").removesuffix("6")
        foreign = text(row, "FOREIGN")
        unconnected = foreign.endswith(":*") or not foreign  # an endpoint of SCTP has no other end
        listens = proto in ("tcp", "sctp") and text(row, "STATE") == "LISTEN"
        if (listens or proto == "udp") and unconnected:
            end = split_port(text(row, "LOCAL"))
            yield ListeningPort(proto, *end, row.get("PID"), text(row, "PROGRAM"), "netstat")


def _of_ss(rows: Sequence[Cells]) -> Iterator[ListeningPort]:
    for row in rows:
        proto = text(row, "NETID")
        if (proto, text(row, "STATE")) in (("tcp", "LISTEN"), ("sctp", "LISTEN"), ("udp", "UNCONN")):
            yield ListeningPort(proto, *split_port(text(row, "LOCAL")), None, "", "ss")
