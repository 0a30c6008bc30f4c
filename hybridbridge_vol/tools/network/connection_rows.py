"""The rows of tracked connections and expectations, from what the kernel answers by netlink."""

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
from hybridbridge_vol.procfs.net import Endpoint
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Options, Row
from hybridbridge_vol.tools.network.answers import answers

T = TypeVar("T", Connection, Expectation)
_NANO = 1_000_000_000
_FAMILIES = {2: "ipv4", 10: "ipv6"}
_EXPECT_FLAGS = ((1, "PERMANENT"), (2, "INACTIVE"), (4, "USERSPACE"))


def connection_rows(kernel: GuestKernel, options: Options, count: int) -> Iterator[Row]:
    """The rows of `hb run conntrack`, each of `count` cells."""
    families = _families(options)
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
    return Endpoint(address, port).text


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
