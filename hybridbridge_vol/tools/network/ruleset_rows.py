"""The rows of the ruleset of nftables, from what the kernel answers by netlink."""

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
from hybridbridge_vol.toolkit.tool import Options, Row
from hybridbridge_vol.tools.network.link_answers import names_by_index


def ruleset_rows(kernel: GuestKernel, options: Options, count: int) -> Iterator[Row]:
    """The rows of `hb run nft`, each of `count` cells."""
    asked = Asked(kernel)
    names = names_by_index(kernel)
    ruleset = Ruleset(asked.dump, lambda ifindex: names.get(ifindex, str(ifindex)))
    wanted = (entry for entry in ruleset.entries() if _is_wanted(entry, options))
    if options["ruleset"]:
        yield from (Row((line,), sources=sources) for line, sources in ruleset_lines(wanted))
    else:
        yield from _rows(wanted)
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
