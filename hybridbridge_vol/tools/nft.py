"""nft: the ruleset of nf_tables, in nft's own syntax."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.filter_text import as_lines


class Nft(Tool):
    name = "nft"
    help = "The ruleset of nftables: tables, chains, rules with counters, sets and their elements, objects"
    notes = (
        "Asks the snapshot's kernel by nf_tables' netlink messages, as `nft list ruleset` does, and "
        "writes what "
        "it answers as nft does. What of a rule is not known here stands in [ ] with the kernel's name of it "
        "and its attributes as they are: nothing is left out. Rules that iptables-nft made are shown like "
        "others; those of legacy iptables are shown by `xtables`. One network namespace is shown, that of "
        "process 1: `--ns-of PID` shows another's."
    )
    example = "--ruleset"
    options = (
        Option("ruleset", bool, "the text that `nft list ruleset` prints, a line a row"),
        Option("family", str, "only tables of these families: ip, ip6, inet, arp, bridge, netdev", many=True),
        Option("table", str, "only these tables", many=True),
    )
    columns = (
        Column("FAMILY", "str", "ip, ip6, inet, arp, bridge or netdev"),
        Column("TABLE", "str", "table"),
        Column(
            "KIND",
            "str",
            "table, chain, rule, set, map, element, flowtable, or an object: counter, quota, limit ...",
        ),
        Column("NAME", "str", "its name; of a rule its chain, of an element its set"),
        Column("HANDLE", "int", "the kernel's number of it"),
        Column("PACKETS", "int", "packets that its counter has seen"),
        Column("BYTES", "int", "bytes that its counter has seen"),
        Column("TEXT", "str", "what it is, in nft's syntax"),
    )
    _lines = (Column("TEXT", "str", "a line of the ruleset"),)

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return self._lines if options["ruleset"] else self.columns

    def wants_raw(self, options: Options, terminal: bool) -> bool:
        return bool(options["ruleset"])

    def raw(self, kernel: GuestKernel, options: Options) -> Iterator[bytes | Unavailable]:
        """The text of the ruleset, and why some of it is missing."""
        return as_lines(self.rows(kernel, options))

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # 6 ms, and Volatility loads all tools at every start
        from hybridbridge_vol.tools.network.ruleset_rows import ruleset_rows

        return ruleset_rows(kernel, options, len(self.columns_for(options)))


TOOL = Nft()
