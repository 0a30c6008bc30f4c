"""Things that several lists of the kernel should all name: what one names and another does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable

Key = TypeVar("Key", int, str)


class Finding(NamedTuple):
    """Something that some views name and others do not."""

    kind: str
    what: str
    name: str
    seen: str
    missing: str
    sources: tuple[Source, ...] = ()


@dataclass
class Views(Generic[Key]):
    """What each view names. A view that could not be read to its end has a gap, and nothing counts as missing
    in it."""

    named: dict[str, set[Key]] = field(default_factory=dict)
    gaps: dict[str, Unavailable] = field(default_factory=dict)

    def add(self, view: str, keys: Iterable[Key], gap: Unavailable | None = None) -> None:
        """One more view."""
        self.named[view] = set(keys)
        if gap:
            self.gaps[view] = gap

    def every(self) -> set[Key]:
        """What any view names."""
        return set().union(*self.named.values())

    def differences(
        self, excused: Callable[[str, Key], bool] = lambda _view, _key: False
    ) -> Iterator[tuple[Key, str, str]]:
        """`(key, views that name it, views that do not)` of each that some view misses which is not
        excused."""
        for key in sorted(self.every()):
            seen = [view for view, keys in self.named.items() if key in keys]
            missing = [v for v in self.named if v not in seen and v not in self.gaps and not excused(v, key)]
            if missing:
                yield key, ", ".join(seen), ", ".join(missing)
