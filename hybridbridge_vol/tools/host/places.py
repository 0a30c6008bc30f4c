"""Folders that a system may have or not have: which are there, and of which memory cannot say it.

The guest's kernel looks each one up: a name that its dcache has as absent, or that the directory's blocks in
memory do not hold, is known to be absent. Where a directory on the way is not in memory, nothing is known of
what lies below it; most such folders have never been there, so they are counted and not shown one by one.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.host.text_file import is_absent


class UnknownPlaces(NamedTuple):
    """Paths of which it is not known whether anything is there, all for one reason. `lack` names the first,
    counts the others, and says why."""

    paths: tuple[str, ...]
    lack: Unavailable


def find_places(files: Files, paths: Iterable[str]) -> tuple[list[str], list[UnknownPlaces]]:
    """Those that are there, or at least the directory that they would be in; and those of which memory says
    nothing, by why it does not. One that is known to be absent is in neither."""
    there: list[str] = []
    unknown: dict[str, list[str]] = {}
    for path in paths:
        found = _look(files, path)
        if found is None:
            continue
        if not isinstance(found, Unavailable) or _look(files, posixpath.dirname(path)) is True:
            there.append(path)
        else:
            unknown.setdefault(found.reason.removeprefix(f"{path}: "), []).append(path)
    return there, [_unknown(those, reason) for reason, those in unknown.items()]


def _look(files: Files, path: str) -> bool | Unavailable | None:
    """True if something is there, None if nothing is, or why that is not known."""
    try:
        files.attributes(path, follow=True)
    except UNREADABLE as error:
        return None if is_absent(error) else why(path, error)
    return True


def _unknown(paths: list[str], reason: str) -> UnknownPlaces:
    what = f"{paths[0]}: it is not known whether it is there"
    if len(paths) > 1:
        what = f"{paths[0]} and {len(paths) - 1:,} more: it is not known whether they are there"
    return UnknownPlaces(tuple(paths), Unavailable(f"{what}: of a directory on the way: {reason}"))
