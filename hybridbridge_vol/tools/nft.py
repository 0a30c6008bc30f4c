"""nft: the ruleset of nf_tables, in nft's own syntax."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import EndlessFile
from hybridbridge_vol.netlink.nftables.listing import Entry, Ruleset
from hybridbridge_vol.netlink.nftables.ruleset_text import ruleset_lines
from hybridbridge_vol.netlink.requests import NetlinkRequest
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.filter_text import as_lines
from hybridbridge_vol.tools.network.link_answers import names_by_index


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
        asked = Asked(kernel)
        names = names_by_index(kernel)
        ruleset = Ruleset(asked.dump, lambda ifindex: names.get(ifindex, str(ifindex)))
        wanted = (entry for entry in ruleset.entries() if _is_wanted(entry, options))
        if options["ruleset"]:
            yield from (Row((line,), sources=sources) for line, sources in ruleset_lines(wanted))
        else:
            yield from _rows(wanted)
        count = len(self.columns_for(options))
        for error, source in ruleset.broken:
            yield Row((Unavailable(str(error)),) * count, sources=(source,))
        yield from (Row((gap,) * count) for gap in asked.gaps)


class Asked:
    """What the kernel answers to requests; `gaps` are why answers are missing or not whole."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel
        self.gaps: list[Unavailable] = []

    def dump(self, request: NetlinkRequest) -> bytes:
        """The answer; what there is of it if it does not end; nothing if it cannot be had."""
        try:
            return self._kernel.netlink.dump(request)
        except EndlessFile as error:
            self.gaps.append(why(request.source, error))
            return error.partial
        except UNREADABLE as error:
            gap = why(request.source, error)
            if not isinstance(error, CallRolledBack) or gap not in self.gaps:
                self.gaps.append(gap)
            return b""


def _is_wanted(entry: Entry, options: Options) -> bool:
    return (not options["family"] or entry.family in options["family"]) and (
        not options["table"] or entry.table in options["table"]
    )


def _rows(entries: Iterable[Entry]) -> Iterator[Row]:
    for entry in entries:
        if entry.kind != "end":
            counts = entry.packets, entry.bytes
            cells = (*entry[:2], entry.kind, entry.name, entry.handle, *counts, _text(entry))
            yield Row(cells, sources=entry.sources)


def _text(entry: Entry) -> str:
    """In one line, without the braces around it."""
    if entry.kind == "element":
        return entry.lines[0].removeprefix("elements = { ").removesuffix(" }").removesuffix(",")
    if entry.kind == "rule":
        return entry.lines[0]
    lines = [line for line in entry.lines[1:] if line != "}"]
    return "; ".join(line.removesuffix(";") for line in lines)


TOOL = Nft()
