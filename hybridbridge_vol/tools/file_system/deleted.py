"""Files that have lost their names, and that processes have open or mapped.

What descriptors and programs lead to is asked of many processes together. Which mapped files are without a
name, the text of /proc/PID/maps says at once, with the paths that /proc/PID/map_files shows one by one; but
of shared memory with a name (`prctl(PR_SET_VMA_ANON_NAME)`) it has that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.guest.values import OpenDescriptor, Question
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.file_system.walk import Entry
from hybridbridge_vol.tools.process.descriptors import Share, in_shares, targets
from hybridbridge_vol.tools.process.listing import files_of, processes

DELETED = " (deleted)"
"""What the kernel puts behind the path of a file that has no name any more (d_path, fs/d_path.c)."""
_MARKS = (b" (deleted)\n", b" [anon_shmem:")
_MAPPED = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ (\S+ \d+ +(?:.* \(deleted\)|\[anon_shmem:.*\]))")
"""A line of maps (fs/proc/task_mmu.c, `show_map_vma`) that may be of such a file: it has one of the marks.
Its third part, the same for each mapping of the file, is the device, the inode and the path."""

_Identity = tuple[int, int]
"""Device and inode, as stat(2) has them."""


class _Link(NamedTuple):
    """A link of /proc to a file without a name; `identity` if it is known already."""

    path: str
    target: str
    identity: _Identity | None = None
    mapped: bytes = b""
    """How maps names the file."""


def deleted_files(kernel: GuestKernel) -> Iterator[Entry]:
    """The files without a name that processes have open or mapped, each once. Their `path` is a link of
    /proc."""
    met: set[_Identity] = set()
    met_mapped: set[bytes] = set()
    for shares in in_shares(kernel, processes(kernel)):
        for pid, link in _links(kernel.files, shares, met_mapped):
            if link.identity in met:
                continue
            entry = _deleted(kernel.files, link, pid)
            identity = (entry.attributes.dev, entry.attributes.ino) if entry.attributes else None
            if identity is None or identity not in met:
                yield entry
            if identity is not None:
                met.add(identity)
                met_mapped.update((link.mapped,) if link.mapped else ())


def _links(files: Files, shares: list[Share], met: set[bytes]) -> Iterator[tuple[int, _Link]]:
    """The links of some processes, each with its process: programs, descriptors, mappings."""
    programs = files.programs(share.pid for share in shares if share.first)
    last = [share.pid for share in shares if share.last]
    files.expect(files_of(last, "maps"))
    texts = {pid: _maps(files, pid) for pid in last}
    files.expect(_questions(shares, programs, texts, met))
    descriptors = list(targets(files, shares))
    start = 0
    for share in shares:
        pid = share.pid
        if share.first:
            yield from ((pid, link) for link in _program(files, pid, programs.get(pid)))
        end = start + len(share.descriptors)
        for _pid, fd, target, seen in descriptors[start:end]:
            if not isinstance(target, Unavailable) and target.endswith(DELETED):
                yield pid, _Link(f"/proc/{pid}/fd/{fd}", target, _identity(seen))
        start = end
        if share.last:
            yield from ((pid, link) for link in _mapped(files, pid, texts[pid], met))


def _questions(
    shares: list[Share], programs: Mapping[int, object], texts: dict[int, bytes | None], met: set[bytes]
) -> Iterator[Question]:
    """The links that will be read one by one."""
    others = (share.pid for share in shares if share.first and share.pid not in programs)
    yield from files_of(others, "exe", kind="readlink")
    asked = set(met)
    for pid, text in texts.items():
        for path, mapped in _candidates(pid, text or b""):
            if mapped not in asked:
                asked.add(mapped)
                yield Question("readlink", path)


def _identity(seen: OpenDescriptor | None) -> _Identity | None:
    return None if seen is None else (seen.stat.dev, seen.stat.ino)


def _program(files: Files, pid: int, seen: OpenDescriptor | None) -> Iterator[_Link]:
    path = f"/proc/{pid}/exe"
    target = _target(files, path) if seen is None else seen.target
    if target.endswith(DELETED):
        yield _Link(path, target, _identity(seen))


def _maps(files: Files, pid: int) -> bytes | None:
    """The text of a process's maps; None if it cannot be read."""
    try:
        return files.read(f"/proc/{pid}/maps")
    except UNREADABLE:
        return None


def _mapped(files: Files, pid: int, text: bytes | None, met: set[bytes]) -> Iterator[_Link]:
    """The mapped files that were not `met`; without the text of maps by their links alone."""
    for path, mapped in _listed(files, pid) if text is None else _candidates(pid, text):
        if mapped in met:
            continue
        target = _target(files, path)
        if target.endswith(DELETED):
            yield _Link(path, target, None, mapped)


def _candidates(pid: int, text: bytes) -> Iterator[tuple[str, bytes]]:
    """The links of map_files that may lead to files without a name, and how maps names these."""
    if not any(mark in text for mark in _MARKS):
        return
    for found in filter(None, map(_MAPPED.fullmatch, text.split(b"\n"))):
        start, end = int(found[1], 16), int(found[2], 16)
        yield f"/proc/{pid}/map_files/{start:x}-{end:x}", found[3]


def _listed(files: Files, pid: int) -> Iterator[tuple[str, bytes]]:
    folder = f"/proc/{pid}/map_files"
    try:
        names = files.listdir(folder)
    except UNREADABLE:
        return  # `lsof` and `maps` report it
    yield from ((f"{folder}/{name}", b"") for name in names)


def _target(files: Files, link: str) -> str:
    """Where a link leads to; empty where that cannot be read, which `lsof` and `maps` report."""
    try:
        return files.readlink(link)
    except UNREADABLE:
        return ""


def _deleted(files: Files, link: _Link, pid: int) -> Entry:
    shown = link.target.removesuffix(DELETED)
    state = f"deleted, in use by {pid}"
    try:
        return Entry(link.path, files.attributes(link.path, follow=True), None, state, shown)
    except UNREADABLE as error:
        return Entry(link.path, None, why(link.path, error), state, shown)
