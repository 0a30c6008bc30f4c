"""xtables: the legacy tables of iptables and ip6tables, as iptables-save prints them."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.filter_text import as_lines


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
        from hybridbridge_vol.tools.network.legacy_tables import table_rows  # 3 ms, see tools/nft.py

        return table_rows(kernel, options, len(self.columns_for(options)))


TOOL = Xtables()
