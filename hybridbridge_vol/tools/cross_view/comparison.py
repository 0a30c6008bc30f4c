"""Cross-view detection: several lists of the kernel should name the same things; what some name and others do
not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable

Key = TypeVar("Key", int, str)


class Finding(NamedTuple):
    """Something that some lists name and others do not."""

    kind: str
    what: str
    name: str
    seen: str
    missing: str
    sources: tuple[Source, ...] = ()
    doubt: str = ""
    """Why it may be none: the lists rest on what the image has not."""


@dataclass
class Comparison(Generic[Key]):
    """What each list names, by the list's name. A list that could not be read to its end has a read error,
    and nothing counts as missing in it."""

    named: dict[str, set[Key]] = field(default_factory=dict)
    read_errors: dict[str, Unavailable] = field(default_factory=dict)

    def add(self, source: str, keys: Iterable[Key], read_error: Unavailable | None = None) -> None:
        """One more list."""
        self.named[source] = set(keys)
        if read_error:
            self.read_errors[source] = read_error

    def every(self) -> set[Key]:
        """What any list names."""
        return set().union(*self.named.values())

    def disputed(self) -> set[Key]:
        """What some list names and another does not."""
        every = self.every()
        return {key for key in every if any(key not in keys for keys in self.named.values())}

    def differences(
        self, excused: Callable[[str, Key], bool] = lambda _source, _key: False
    ) -> Iterator[tuple[Key, str, str]]:
        """`(key, lists that name it, lists that do not)` of each key that a list does not name without being
        `excused`."""
        for key in sorted(self.every()):
            seen = [source for source, keys in self.named.items() if key in keys]
            others = (source for source in self.named if source not in seen)
            missing = [
                source for source in others if source not in self.read_errors and not excused(source, key)
            ]
            if missing:
                yield key, ", ".join(seen), ", ".join(missing)
