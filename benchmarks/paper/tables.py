"""What was measured, beside the paper's figures, as tables. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from benchmarks import results
from benchmarks.paper.fall_backs import Filling
from benchmarks.paper.figures import PAPER, VIRTUOSO
from benchmarks.results import number
from benchmarks.side_by_side import Counted, Timed, Times

SLOW, FAST, LIMIT = "SLOW", "FAST", "limit"
"""The variants."""
ORDINALS = ("1st", "2nd", "3rd", "4th", "5th")
ALIKE = 0.1
"""Whole times are compared with the limit's where instructions differ by at most this share: there the work
is the same."""

Counts = Mapping[str, Counted]
"""By the name of a work."""
Fillings = Mapping[str, Filling]
Named = Mapping[str, str]
"""The paper's name of a tool, and the name of our work."""


def counts(named: Named, here: Counts) -> list[str]:
    """What a tool does on the snapshot."""
    rows = []
    for tool, work in named.items():
        one = here[work]
        exits = f"{PAPER[tool].vm_exits:,}" if tool in PAPER else ""
        rows.append([
            work, f"{one.rows:,}", f"{one.calls:,}", f"{one.instructions:,}", f"{one.crossings:,}",
            f"{one.exits:,}", exits,
        ])  # fmt: skip
    header = [
        "warm", "rows", "system calls", "guest instructions", "crossings into the snapshot",
        "exits from the emulator", "paper: exits from the machine",
    ]  # fmt: skip
    return results.table(header, rows)


def slow_and_fast(named: Named, times: Times) -> list[str]:
    """SLOW-BRIDGE beside FAST-BRIDGE."""
    rows = []
    for tool, work in named.items():
        slow, fast = times[work, SLOW], times[work, FAST]
        rows.append([
            work, number(1000 * slow.whole), number(1000 * fast.whole), number(slow.whole / fast.whole),
            number(slow.emulated / fast.emulated),
            f"{PAPER[tool].faster_than_vmst:.2f}" if tool in PAPER else "",
        ])  # fmt: skip
    header = [
        "warm", "SLOW, ms", "FAST, ms", "SLOW / FAST", "of it in the emulator", "paper: VMST / FAST",
    ]  # fmt: skip
    return results.table(header, rows)


def limit(named: Named, more: Iterable[str], here: Counts, alone: Counts, times: Times) -> list[str]:
    """FAST-BRIDGE beside the trusted kernel alone: the tools, and more work. A tool that the trusted kernel
    alone cannot answer has only one side."""
    rows = []
    for tool, work in [*named.items(), *(("", work) for work in more)]:
        paper = f"{PAPER[tool].slower_than_kvm:.2f}" if tool in PAPER else ""
        fast = times[work, FAST]
        if work in alone:
            rows.append([work, *_beside(here[work], alone[work], fast, times[work, LIMIT]), paper])
        else:
            each = number(_nanoseconds(fast, here[work]))
            rows.append([work, f"{here[work].instructions:,}", "", "", "", each, "", "", paper])
    header = [
        "warm", "FAST: instructions", "limit: instructions", "limit, ms", "FAST / limit, same work",
        "FAST, ns per instruction", "limit, ns per instruction", "FAST / limit, per instruction",
        "paper: FAST / KVM",
    ]  # fmt: skip
    return results.table(header, rows)


def _beside(here: Counted, alone: Counted, fast: Timed, bare: Timed) -> list[str]:
    alike = abs(here.instructions - alone.instructions) <= ALIKE * alone.instructions
    each = _nanoseconds(fast, here), _nanoseconds(bare, alone)
    return [
        f"{here.instructions:,}", f"{alone.instructions:,}", number(1000 * bare.whole),
        number(fast.whole / bare.whole) if alike else "", *map(number, each), number(each[0] / each[1]),
    ]  # fmt: skip


def _nanoseconds(timed: Timed, counted: Counted) -> float:
    """Inside the emulator, per guest instruction."""
    return 1e9 * timed.emulated / counted.instructions


def virtuoso(named: Named, here: Counts, times: Times) -> list[str]:
    """The four tools that VIRTUOSO has."""
    rows = [
        [
            named[tool], f"{here[named[tool]].instructions:,}", f"{paper.instructions:,}",
            number(1000 * times[named[tool], FAST].whole), f"{1000 * paper.seconds:.0f}",
            f"{paper.faster:.2f}",
        ]
        for tool, paper in VIRTUOSO.items()
    ]  # fmt: skip
    header = [
        "warm", "guest instructions", "paper: instructions of VIRTUOSO's", "FAST, ms", "paper: FAST, ms",
        "paper: VIRTUOSO / FAST",
    ]  # fmt: skip
    return results.table(header, rows)


def memo(named: Named, fillings: Fillings) -> list[str]:
    """Without any memo, and with a full one."""
    rows = []
    for tool, work in named.items():
        first, *_, last = fillings[work].seconds
        row = [work, number(first), number(last), number(first / last)]
        if tool in PAPER:
            paper = PAPER[tool]
            ratio = number(paper.without_memo / paper.with_memo)
            row += [f"{paper.without_memo:.3f}", f"{paper.with_memo:.3f}", ratio]
        rows.append(row)
    header = [
        "cold", "no memo, s", "full memo, s", "ratio", "paper: no memo, s", "paper: full memo, s",
        "paper: ratio",
    ]  # fmt: skip
    return results.table(header, _filled(rows, header))


def traps(fillings: Fillings) -> list[str]:
    """From snapshot to snapshot. Opening a session comes first, as all of them need it."""
    opening = next(iter(fillings.values())).opening
    rows = [["opening a session", *map(_count, opening)]]
    rows += [
        [work, *map(_count, filling.traps), str(filling.most_on_last)] for work, filling in fillings.items()
    ]
    ordinals = ORDINALS[: len(opening)]
    header = ["traps", *ordinals, f"most on the {ordinals[-1]}"]
    return results.table(header, _filled(rows, header))


def seconds(fillings: Fillings) -> list[str]:
    """From snapshot to snapshot."""
    ordinals = ORDINALS[: len(next(iter(fillings.values())).seconds)]
    rows = [
        [work, *map(number, filling.seconds), number(filling.seconds[0] / filling.seconds[-1])]
        for work, filling in fillings.items()
    ]
    return results.table(["seconds", *ordinals, f"1st / {ordinals[-1]}"], rows)


def programs(
    named: Named, here: Counts, intercepted: Mapping[str, int], times: Times, fillings: Fillings
) -> list[str]:
    """Native programs."""
    rows = []
    for work in named.values():
        one, slow, fast, filling = here[work], times[work, SLOW], times[work, FAST], fillings[work]
        rows.append([
            work, f"{intercepted[work]:,}", f"{one.calls:,}", f"{one.instructions:,}",
            number(1000 * slow.whole), number(1000 * fast.whole), number(slow.whole / fast.whole),
            number(filling.seconds[0]), number(filling.seconds[-1]), *map(_count, filling.traps),
            str(filling.most_on_last),
        ])  # fmt: skip
    header = [
        "program", "intercepted calls", "calls into the image's kernel", "guest instructions", "SLOW, ms",
        "FAST, ms", "SLOW / FAST", "no memo, s", "full memo, s", *ORDINALS[: len(filling.traps)],
        f"most on the {ORDINALS[len(filling.traps) - 1]}",
    ]  # fmt: skip
    return results.table(header, rows)


def _count(median: float) -> str:
    """Of an odd number of whole numbers."""
    return f"{median:.0f}"


def _filled(rows: Iterable[Sequence[str]], header: Sequence[str]) -> list[list[str]]:
    """Rows as long as their header."""
    return [[cell for _name, cell in zip_longest(header, row, fillvalue="")] for row in rows]
