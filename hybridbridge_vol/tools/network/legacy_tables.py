"""The rows of the legacy tables of iptables, from the options that the kernel answers."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOENT

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source, split_lines
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, read_lines, why
from hybridbridge_vol.toolkit.tool import Options, Row
from hybridbridge_vol.xtables import entries as xt
from hybridbridge_vol.xtables.rule_text import rule_text

_FAMILIES = (
    (xt.PF_INET, "ip", "/proc/net/ip_tables_names"),
    (xt.PF_INET6, "ip6", "/proc/net/ip6_tables_names"),
)
MOST_SIZE = 3 << 20
"""Bytes of a table that are asked for."""


def table_rows(kernel: GuestKernel, options: Options, count: int) -> Iterator[Row]:
    """The rows of `hb run xtables`; those of a table that cannot be read have `count` cells."""
    chosen = [family for family, name in ((xt.PF_INET, "inet"), (xt.PF_INET6, "inet6")) if options[name]]
    for family, name, path in _FAMILIES:
        if chosen and family not in chosen:
            continue
        for table in _tables(kernel, path):
            if isinstance(table, Unavailable):
                yield Row((table,) * count)
            elif not options["table"] or table in options["table"]:
                yield from _table(kernel, family, name, table, bool(options["save"]))


def _tables(kernel: GuestKernel, path: str) -> Iterator[str | Unavailable]:
    """The tables that there are; none where the module of them is not loaded."""
    data, gap = read_lines(kernel.files, path, empty=ENOENT)
    yield from map(text, split_lines(data))
    if gap:
        yield gap


def _table(kernel: GuestKernel, family: int, name: str, table: str, as_text: bool) -> Iterator[Row]:
    info_source, source = (
        Source(f"getsockopt {family} {option}") for option in (xt.GET_INFO, xt.GET_ENTRIES)
    )
    gap = None
    found: list[xt.Entry] = []
    info = xt.TableInfo(0, (0,) * 5, (0,) * 5, 0, 0)
    try:
        ask = kernel.packet_tables.option
        info = xt.parse_info(ask(family, xt.GET_INFO, xt.info_request(table), xt.INFO_SIZE))
        size = min(info.size, MOST_SIZE)
        data = ask(family, xt.GET_ENTRIES, xt.entries_request(table, size), xt.ENTRIES_HEAD + size)
        for entry in xt.entries(family, data[xt.ENTRIES_HEAD :]):
            found.append(entry)  # noqa: PERF402 - those before one that makes no sense count
    except (*UNREADABLE, ParseError) as error:
        gap = why(f"table {table} of {name}tables", error)
    chains, names = xt.chains(info, found)
    if as_text:
        yield from (
            Row((line,), sources=(info_source, source)) for line in _save(table, family, chains, names)
        )
    else:
        yield from _rows(family, (name, table), chains, names, source)
    if gap is not None:
        yield Row((gap,)) if as_text else Row((name, table, *(gap,) * 5))


def _save(table: str, family: int, chains: list[xt.Chain], names: dict[int, str]) -> Iterator[str]:
    yield f"*{table}"
    for chain in chains:
        yield f":{chain.name} {chain.policy or '-'} [{chain.packets}:{chain.bytes}]"
    for chain in chains:
        for entry in chain.rules:
            rule = rule_text(entry, family, names)
            yield f"[{entry.packets}:{entry.bytes}] -A {chain.name}{' ' if rule else ''}{rule}"
    yield "COMMIT"


def _rows(
    family: int, head: tuple[Cell, ...], chains: list[xt.Chain], names: dict[int, str], source: Source
) -> Iterator[Row]:
    for chain in chains:
        counts = (chain.packets, chain.bytes) if chain.policy else (None, None)
        yield Row((*head, chain.name, None, *counts, chain.policy or "-"), sources=(source,))
        for number, entry in enumerate(chain.rules, 1):
            cells = (*head, chain.name, number, entry.packets, entry.bytes, rule_text(entry, family, names))
            yield Row(cells, sources=(source,))
