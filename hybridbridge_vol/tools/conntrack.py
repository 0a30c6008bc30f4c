"""conntrack: the connections that the kernel's packet filter keeps track of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.conntrack import (
    ASSURED,
    CONNECTIONS,
    EXPECTATIONS,
    NEW_CONNECTION,
    NEW_EXPECTATION,
    SEEN_REPLY,
    STATUS,
    Connection,
    Expectation,
    Tuple,
    parse_connection,
    parse_expectation,
)
from hybridbridge_vol.netlink.ip_names import names_of
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.requests import NetlinkRequest
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.answers import answers

T = TypeVar("T", Connection, Expectation)
_NANO = 1_000_000_000
_FAMILIES = {2: "ipv4", 10: "ipv6"}
_EXPECT_FLAGS = ((1, "PERMANENT"), (2, "INACTIVE"), (4, "USERSPACE"))

_L3 = Column("L3", "str", "ipv4 or ipv6")
_PROTO = Column("PROTO", "str", "protocol")
_TIMEOUT = Column("TIMEOUT", "int", "seconds until it is forgotten")


class Conntrack(Tool):
    name = "conntrack"
    help = "Tracked connections with both directions, translation, state and counters; expectations"
    notes = (
        "Asks the snapshot's kernel by ctnetlink, as `conntrack -L` does, whether the guest had loaded "
        "nf_conntrack_netlink or not. REPLY is where answers come from and go to: it differs from the other "
        "direction where addresses are translated. Connections outlive their processes and sockets here. "
        "One network namespace is shown, that of process 1: `--ns-of PID` shows another's."
    )
    options = (
        Option("expect", bool, "connections that helpers wait for (conntrack -L expect)"),
        Option("inet", bool, "only IPv4", short="4"),
        Option("inet6", bool, "only IPv6", short="6"),
    )
    columns = (
        _L3,
        _PROTO,
        _TIMEOUT,
        Column("STATE", "str", "of TCP, SCTP and DCCP"),
        Column("SOURCE", "str", "who began it: address and port, or for ICMP id=ID"),
        Column("DESTINATION", "str", "with whom: address and port, or for ICMP type.code"),
        Column("PACKETS", "int", "sent by who began it"),
        Column("BYTES", "int", "sent by who began it"),
        Column("REPLY-SOURCE", "str", "where answers come from"),
        Column("REPLY-DESTINATION", "str", "where answers go to"),
        Column("REPLY-PACKETS", "int", "sent back"),
        Column("REPLY-BYTES", "int", "sent back"),
        Column("FLAGS", "str", "UNREPLIED, ASSURED, and which addresses are translated"),
        Column("MARK", "int", "mark of the connection"),
        Column("ZONE", "int", "zone, if it is not 0"),
        Column("HELPER", "str", "who follows its content (ftp, sip ...)"),
        Column("BEGUN", "time", "when it was first seen, if times are kept (nf_conntrack_timestamp)"),
        Column("USE", "int", "references to it"),
        Column("ID", "int", "the kernel's number of it"),
        Column("MORE", "str", "labels, security context, the connection that it belongs to"),
    )
    moments = (Moment("BEGUN", "created", "connection first seen"),)
    moment_text = ("PROTO", "SOURCE", "DESTINATION", "STATE")
    _expected = (
        _L3,
        _PROTO,
        _TIMEOUT,
        Column("SOURCE", "str", "address and port; 0 or 0.0.0.0 in the mask: any"),
        Column("DESTINATION", "str", "address and port"),
        Column("MASK-SOURCE", "str", "which parts of the source count"),
        Column("MASK-DESTINATION", "str", "which parts of the destination count"),
        Column("MASTER-SOURCE", "str", "of the connection for which it is expected"),
        Column("MASTER-DESTINATION", "str", "of the connection for which it is expected"),
        Column("CLASS", "int", "kind of expectation, to the helper"),
        Column("FLAGS", "str", "PERMANENT, INACTIVE, USERSPACE"),
        Column("ZONE", "int", "zone, if it is not 0"),
        Column("HELPER", "str", "who waits for it"),
        Column("ID", "int", "the kernel's number of it"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return self._expected if options["expect"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        families = _families(options)
        count = len(self.columns_for(options))
        if options["expect"]:
            found = _answers(kernel, EXPECTATIONS, NEW_EXPECTATION, parse_expectation)
            for one, source in found:
                yield from _row(one, source, families, count, _expectation_cells)
            return
        for connection, source in _answers(kernel, CONNECTIONS, NEW_CONNECTION, parse_connection):
            yield from _row(connection, source, families, count, _cells)


def _families(options: Options) -> set[int]:
    return {family for family, name in ((2, "inet"), (10, "inet6")) if options[name]} or set(_FAMILIES)


def _row(
    one: T | Unavailable,
    source: tuple[Source, ...],
    families: set[int],
    count: int,
    cells: Callable[[T], tuple[Cell, ...]],
) -> Iterator[Row]:
    if isinstance(one, Unavailable):
        yield Row((one,) * count, sources=source)
    elif one.family in families or one.family not in _FAMILIES:
        yield Row(cells(one), sources=source)


def _answers(
    kernel: GuestKernel, request: NetlinkRequest, kind: int, parse: Callable[[bytes], T]
) -> Iterator[tuple[T | Unavailable, tuple[Source, ...]]]:
    """What the kernel answers, and at the end why it is not all."""
    return answers(
        request.source,
        partial(kernel.netlink.dump, request),
        lambda data: parsed(request.source, (kind,), data, parse),
    )


def end_text(one: Tuple, is_source: bool) -> str:
    """An end of a connection."""
    address = one.source if is_source else one.destination
    if one.icmp is not None:
        kind, code, number = one.icmp
        return f"{address} id={number}" if is_source else f"{address} type={kind}.{code}"
    port = one.source_port if is_source else one.destination_port
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _cells(one: Connection) -> tuple[Cell, ...]:
    flags = ["UNREPLIED"] * (not one.status & SEEN_REPLY) + ["ASSURED"] * bool(one.status & ASSURED)
    flags += [name for bit, name in STATUS if one.status & bit & _SHOWN]
    more = [f"labels: {one.labels}"] * (one.labels is not None)
    more += [f"secctx: {one.secctx}"] * (one.secctx is not None)
    if one.master is not None:
        more.append(f"master: {end_text(one.master, True)} {end_text(one.master, False)}")
    if one.stop_ns:
        more.append(f"ended: {one.stop_ns / _NANO:.9f}")
    return (
        _FAMILIES.get(one.family, str(one.family)), one.original.protocol_name, one.timeout, one.state,
        end_text(one.original, True), end_text(one.original, False), *(one.sent or (None, None)),
        end_text(one.reply, True), end_text(one.reply, False), *(one.received or (None, None)),
        " ".join(flags), one.mark, one.zone, one.helper, one.start_ns / _NANO if one.start_ns else None,
        one.use,
        one.id, "; ".join(more) or None,
    )  # fmt: skip


_SHOWN = 1 | 16 | 32 | 64 | 512 | 2048 | 4096 | 16384 | 32768
"""Bits of the status that are no matter of course."""


def _expectation_cells(one: Expectation) -> tuple[Cell, ...]:
    return (
        _FAMILIES.get(one.family, str(one.family)), one.expected.protocol_name, one.timeout,
        end_text(one.expected, True), end_text(one.expected, False), end_text(one.mask, True),
        end_text(one.mask, False), end_text(one.master, True), end_text(one.master, False), one.kind,
        " ".join(names_of(one.flags, _EXPECT_FLAGS)), one.zone, one.helper, one.id,
    )  # fmt: skip


TOOL = Conntrack()
