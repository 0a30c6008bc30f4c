"""What a session did, as numbers: for `--stats`, the benchmarks and the tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class CallCount:
    """All calls of one kind. Instructions and trampolines are SLOW's: FAST runs without a hook, so nothing
    counts there. `memoized` are instructions newly proven, `rolled_back` calls thrown away."""

    calls: int = 0
    traps: int = 0
    rolled_back: int = 0
    seconds: float = 0.0
    instructions: int = 0
    trampolines: int = 0
    memoized: int = 0


@dataclass
class Statistics:
    """`by_call`: by the name of the system call. `reclassified`: static references found to be the trusted
    kernel's. `trapped_in`: where FAST met code without a memo. `unattributed`: instructions that reached into
    the snapshot by an address nobody had from it. `unknown_instructions`: by mnemonic, those the taint engine
    has no rule for. `split`: accesses over the end of a page of which only the first part could be
    followed."""

    by_call: dict[str, CallCount] = field(default_factory=dict)
    reclassified: int = 0
    trapped_in: list[str] = field(default_factory=list)
    unattributed: dict[str, int] = field(default_factory=dict)
    unknown_instructions: dict[str, int] = field(default_factory=dict)
    split: int = 0

    def of(self, label: str) -> CallCount:
        """The count of a call, named by the first word of its label."""
        return self.by_call.setdefault(label.partition(" ")[0], CallCount())

    @property
    def total(self) -> CallCount:
        """All calls together."""
        total = CallCount()
        for count in self.by_call.values():
            for name, value in vars(count).items():
                setattr(total, name, getattr(total, name) + value)
        return total

    def add(self, other: Statistics) -> None:
        """Count what a copy of this process did, too; what its taint engine met stays its own."""
        for label, count in other.by_call.items():
            own = self.of(label)
            for name, value in vars(count).items():
                setattr(own, name, getattr(own, name) + value)
        self.reclassified += other.reclassified
        self.trapped_in += other.trapped_in
        for place, times in other.unattributed.items():
            self.unattributed[place] = self.unattributed.get(place, 0) + times

    def clear(self) -> None:
        """Begin anew: a forked worker reports only what it did itself."""
        vars(self).update(vars(Statistics()))

    def lines(self) -> Iterator[str]:
        """A table and what else there is to say."""
        yield f"{'call':14} {'calls':>7} {'traps':>6} {'rolled_back':>6} {'seconds':>8} {'instructions':>13} {'trampolines':>10} {'memoized':>9}"
        for name, count in [*sorted(self.by_call.items()), ("all", self.total)]:
            yield (
                f"{name:14} {count.calls:7} {count.traps:6} {count.rolled_back:6} {count.seconds:8.3f} "
                f"{count.instructions or '-':>13} {count.trampolines or '-':>10} {count.memoized:9}"
            )
        yield "instructions and trampolines are those under taint; FAST-BRIDGE runs uncounted"
        for place in dict.fromkeys(self.trapped_in):
            yield f"trap: {place}"
        if self.reclassified:
            yield f"reclassified as trusted: {self.reclassified} static references"
        for place, times in self.unattributed.items():
            yield f"unattributed access: {place} ({times})"
        if self.split:
            yield f"accesses over the end of a page, second part not followed: {self.split}"
        for name, times in sorted(self.unknown_instructions.items()):
            yield f"no taint rule (all outputs from all inputs): {name} ({times})"
