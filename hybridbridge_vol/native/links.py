"""Paths without links: those of the image and those of this machine are walked alike."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Callable, Container

from hybridbridge_vol.native.abi import failed

_MAX_LINKS = 40  # MAXSYMLINKS, include/linux/namei.h


def without_links(
    path: str, follow: bool, link: Callable[[str], str | None], as_they_are: Container[str] = ()
) -> str:
    """A path without links and dots; its last part may be a link unless `follow`. `link` says where a path
    leads, None if it is no link; a path below one of `as_they_are` is not looked at from there on.
    OSError with ELOOP."""
    done, todo, links = "", _parts(path), 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            done = posixpath.dirname(done) if done else ""
            continue
        here = f"{done}/{part}"
        if here in as_they_are:
            return posixpath.normpath("/".join([here, *todo]))
        target = link(here) if todo or follow else None
        if target is None:
            done = here
            continue
        links += 1
        if links > _MAX_LINKS:
            raise failed(errno.ELOOP)
        todo = _parts(target) + todo
        if target.startswith("/"):
            done = ""
    return done or "/"


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
