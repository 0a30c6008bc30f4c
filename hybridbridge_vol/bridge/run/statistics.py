"""What a session did, as numbers: for `--stats`, the benchmarks and the tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_FAILURES = 1000
"""Failed calls that are kept with the addresses where they failed; a hostile image can make any number."""


@dataclass
class CallCount:
    """All calls of one kind. `traps`: from FAST to SLOW, at code without a memo; `withheld`: at a page of the
    image that only SLOW may read. `rolled_back`: calls that did not end well. `memoized`: instructions newly
    proven. Instructions and trampolines are counted under taint alone: FAST
    runs without a hook."""

    calls: int = 0
    traps: int = 0
    withheld: int = 0
    rolled_back: int = 0
    seconds: float = 0.0
    instructions: int = 0
    trampolines: int = 0
    memoized: int = 0

    def add(self, other: CallCount) -> None:
        """Count another's calls too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Statistics:
    """`by_call`: by the name of the system call. `redirected`: static references that were redirected to the
    trusted kernel's object. `trapped_in`: where FAST met code without a memo. `unattributed`: by instruction,
    accesses to the snapshot by an address that does not come from it. `warned`: by place,
    WARNs of the kernel that were passed. `unknown_instructions`: by mnemonic,
    those for which the taint engine has no rule of their own. `split`: accesses across the end of a page of
    which only the first part was followed. `failures`: the calls that did not end well, and where they
    failed. `lost_programs`: by place, where programs of calls stopped, whose calls were made one by one
    then."""

    by_call: dict[str, CallCount] = field(default_factory=dict)
    redirected: int = 0
    trapped_in: list[str] = field(default_factory=list)
    unattributed: dict[str, int] = field(default_factory=dict)
    warned: dict[str, int] = field(default_factory=dict)
    unknown_instructions: dict[str, int] = field(default_factory=dict)
    split: int = 0
    failures: list[str] = field(default_factory=list)
    lost_programs: dict[str, int] = field(default_factory=dict)

    def failed(self, label: str, where: str) -> None:
        """Keep where a call failed, of the first MAX_FAILURES."""
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(f"{label}: {where}")

    def of(self, label: str) -> CallCount:
        """The count of a call, named by the first word of its label."""
        return self.by_call.setdefault(label.partition(" ")[0], CallCount())

    @property
    def total(self) -> CallCount:
        """All calls together."""
        total = CallCount()
        for count in self.by_call.values():
            total.add(count)
        return total

    def add(self, other: Statistics) -> None:
        """Count what a forked worker did, too. A worker has no taint engine."""
        for label, count in other.by_call.items():
            self.of(label).add(count)
        self.redirected += other.redirected
        self.trapped_in += other.trapped_in
        self.failures += other.failures[: MAX_FAILURES - len(self.failures)]
        for ours, theirs in (
            (self.unattributed, other.unattributed),
            (self.lost_programs, other.lost_programs),
        ):
            for where, times in theirs.items():
                ours[where] = ours.get(where, 0) + times

    def clear(self) -> None:
        """Begin anew: a forked worker reports only what it did itself."""
        vars(self).update(vars(Statistics()))

    def lines(self) -> Iterator[str]:
        """A table of the calls, and the rest in a line each."""
        yield (
            f"{'call':14} {'calls':>7} {'traps':>6} {'withheld':>8} {'rolled_back':>11} {'seconds':>8} "
            f"{'instructions':>13} {'trampolines':>11} {'memoized':>9}"
        )
        for name, count in [*sorted(self.by_call.items()), ("all", self.total)]:
            yield (
                f"{name:14} {count.calls:7} {count.traps:6} {count.withheld:8} {count.rolled_back:11} "
                f"{count.seconds:8.3f} {count.instructions or '-':>13} {count.trampolines or '-':>11} "
                f"{count.memoized:9}"
            )
        yield "instructions and trampolines are those under taint; FAST-BRIDGE runs uncounted"
        for where in dict.fromkeys(self.trapped_in):
            yield f"trap: {where}"
        if self.redirected:
            yield f"redirected to trusted: {self.redirected} static references"
        for where, times in self.lost_programs.items():
            yield f"calls made one by one instead of together: {where} ({times})"
        for where, times in self.unattributed.items():
            yield f"unattributed access: {where} ({times})"
        for where, times in self.warned.items():
            yield f"warning of the kernel: {where} ({times})"
        for failure in self.failures:
            yield f"rolled back: {failure}"
        if self.split:
            yield f"accesses across the end of a page, second part not followed: {self.split}"
        for name, times in sorted(self.unknown_instructions.items()):
            yield f"no taint rule (all outputs from all inputs): {name} ({times})"
