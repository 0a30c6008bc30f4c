"""The ruleset as `nft list ruleset` prints it: indented, and elements of sets in lines (nftables 1.0.6,
src/rule.c, src/expression.c)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hybridbridge_vol.netlink.nftables.listing import Entry
from hybridbridge_vol.procfs.sources import Source

_FIVE = frozenset((
    "nf_proto", "integer", "arp_op", "inet_proto", "inet_service", "tcp_flag", "dccp_pkttype", "mark",
    "iface_index",
    "classid", "uid", "gid", "ct_dir", "pkt_type", "icmp_type", "icmpv6_type", "icmp_code", "icmpv6_code",
    "icmpx_code",
    "devgroup", "dscp", "ecn", "boolean", "igmp_type", "realm", "mh_type", "hour", "day",
))  # fmt: skip
_TWO = frozenset(("ipv4_addr", "ct_state", "ct_status", "ct_event", "fib_addrtype", "time"))
"""Types of which nft writes so many elements in a line; of others one."""


Line = tuple[str, tuple[Source, ...]]
"""A line, and where what it says stands."""


def ruleset_lines(entries: Iterable[Entry]) -> Iterator[Line]:
    """The lines of the ruleset."""
    writer = _Writer()
    for entry in entries:
        if entry.kind == "element":
            yield from writer.element(entry)
        elif entry.kind == "end":
            yield writer.end()
        else:
            yield from writer.block_or_rule(entry)


class _Writer:
    """What is open while lines are written."""

    def __init__(self) -> None:
        self._depth = 0
        self._empty_line = False
        """Whether a block that follows is set off by an empty line."""
        self._elements = ""
        self._count = 0
        self._per_line = 1

    def element(self, entry: Entry) -> Iterator[Line]:
        text = entry.lines[0]
        self._elements = self._elements + text if self._elements else "\t\t" + text
        self._count += 1
        is_last = text.endswith(" }")
        if not is_last and self._count < self._per_line:
            self._elements += " "
            return
        yield self._elements, entry.sources
        self._elements, self._count = "" if is_last else "\t\t\t     ", 0

    def end(self) -> Line:
        self._depth -= 1
        self._empty_line = True
        return "\t" * self._depth + "}", ()

    def block_or_rule(self, entry: Entry) -> Iterator[Line]:
        is_block = entry.lines[0].endswith("{")
        if entry.kind in ("set", "map"):
            self._per_line = _per_line(entry)
        if self._empty_line and self._depth and is_block:
            yield "", ()
        for index, text in enumerate(entry.lines):
            inside = 1 if is_block and index and text != "}" else 0
            yield "\t" * (self._depth + inside) + text, entry.sources
        self._empty_line = is_block
        if is_block and entry.lines[-1] != "}":
            self._depth += 1
            has_flags = any(text.startswith("flags ") for text in entry.lines)
            self._empty_line = entry.kind == "table" and has_flags


def _per_line(entry: Entry) -> int:
    kind = entry.lines[1].removeprefix("type ").partition(" : ")[0]
    return 5 if kind in _FIVE else 2 if kind in _TWO else 1
