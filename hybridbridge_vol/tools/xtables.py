"""xtables: the legacy tables of iptables and ip6tables, as iptables-save prints them."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOENT

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source, split_lines
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.filter_text import as_lines
from hybridbridge_vol.xtables import entries as xt
from hybridbridge_vol.xtables.rule_text import rule_text

_FAMILIES = (
    (xt.PF_INET, "ip", "/proc/net/ip_tables_names"),
    (xt.PF_INET6, "ip6", "/proc/net/ip6_tables_names"),
)
MOST_SIZE = 3 << 20
"""Bytes of a table that are asked for."""


class Xtables(Tool):
    name = "xtables"
    help = "The legacy tables of iptables and ip6tables with counters, as iptables-save prints them"
    notes = (
        "Asks the snapshot's kernel by getsockopt(2), as iptables-legacy-save does. What of a rule is not "
        "known "
        "here stands in [ ] as it is. Rules that iptables-nft made are shown by `nft`. One network "
        "namespace is "
        "shown, that of process 1: `--ns-of PID` shows another's."
    )
    example = "--save"
    options = (
        Option("save", bool, "the text that `iptables-legacy-save -c` prints, a line a row"),
        Option("table", str, "only these tables: filter, nat, mangle, raw, security", many=True),
        Option("inet", bool, "only iptables", short="4"),
        Option("inet6", bool, "only ip6tables", short="6"),
    )
    columns = (
        Column("FAMILY", "str", "ip or ip6"),
        Column("TABLE", "str", "filter, nat, mangle, raw or security"),
        Column("CHAIN", "str", "chain"),
        Column("NUMBER", "int", "of the rule in its chain, from 1; none for the chain itself"),
        Column("PACKETS", "int", "packets that it has seen; of a chain those that its policy decided"),
        Column("BYTES", "int", "bytes that it has seen"),
        Column("RULE", "str", "the rule as iptables takes it; of a chain its policy, or - for a user's own"),
    )
    _lines = (Column("TEXT", "str", "a line of iptables-save"),)

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return self._lines if options["save"] else self.columns

    def wants_raw(self, options: Options, terminal: bool) -> bool:
        return bool(options["save"])

    def raw(self, kernel: GuestKernel, options: Options) -> Iterator[bytes | Unavailable]:
        """The text of iptables-save, and why some of it is missing."""
        return as_lines(self.rows(kernel, options))

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        chosen = [family for family, name in ((xt.PF_INET, "inet"), (xt.PF_INET6, "inet6")) if options[name]]
        count = len(self.columns_for(options))
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
    try:
        yield from map(text, split_lines(kernel.files.read(path)))
    except UNREADABLE as error:
        if not (isinstance(error, OSError) and error.errno == ENOENT):
            yield why(path, error)


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


TOOL = Xtables()
