"""Who keeps eBPF objects alive: descriptors of processes, and files of bpf file systems."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from stat import S_ISDIR
from typing import NamedTuple

from hybridbridge_vol.bpf.objects import BTF, LINK, MAP, PROG
from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.mounts import parse_mount
from hybridbridge_vol.procfs.sources import Source, split_lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, read_lines, why
from hybridbridge_vol.tools.process.descriptors import taken
from hybridbridge_vol.tools.process.listing import comm_of

_TARGETS = {
    "anon_inode:bpf-prog": (PROG, b"prog_id"),
    "anon_inode:bpf-map": (MAP, b"map_id"),
    "anon_inode:bpf_link": (LINK, b"link_id"),
    "anon_inode:btf": (BTF, b"btf_id"),
}
"""What a descriptor of an object leads to, and the line of its fdinfo with the id (kernel/bpf/syscall.c)."""
PERF_EVENT = "anon_inode:[perf_event]"
_BPF_FS = "/sys/fs/bpf"
MOST_PINS = 1 << 14
"""Files of bpf file systems that are looked at."""
MOST_DEPTH = 16
Object = tuple[str, int]
"""Kind and id."""


def _object(target: str) -> str | None:
    """What a descriptor leads to, if it is one of these objects."""
    return target if target in _TARGETS or target == PERF_EVENT else None


class Holder(NamedTuple):
    """A descriptor of a process."""

    pid: int
    fd: int
    name: str

    @property
    def source(self) -> Source:
        return Source(f"/proc/{self.pid}/fdinfo/{self.fd}")


class Owners:
    """The descriptors of all processes that are eBPF objects, and perf events; read once. `gap` is why some
    may be missing."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel
        self.gap: Unavailable | None = None
        self.events: list[Holder] = []
        self._holders: dict[Object, list[Holder]] = {}
        self._names: dict[int, str] = {}
        for holder, target in self._descriptors():
            self._take(holder, target)

    def of(self, thing: Object) -> list[Holder]:
        return self._holders.get(thing, [])

    def text(self, thing: Object) -> str | None:
        """`name(pid)` of each process once."""
        found = dict.fromkeys((holder.name, holder.pid) for holder in self.of(thing))
        return " ".join(f"{name}({pid})" for name, pid in found) or None

    def _take(self, holder: Holder, target: str) -> None:
        if target == PERF_EVENT:
            self.events.append(holder)
            return
        kind, key = _TARGETS[target]
        try:
            lines = self._kernel.files.read(holder.source.path)
        except UNREADABLE as error:
            self.gap = self.gap or why(holder.source.path, error)
            return
        number = re.search(rb"^" + key + rb":\s*([0-9]{1,10})$", lines, re.MULTILINE)
        if number is not None:
            self._holders.setdefault((kind, int(number[1])), []).append(holder)

    def _descriptors(self) -> Iterator[tuple[Holder, str]]:
        for found, gap in taken(self._kernel, _object):
            self.gap = self.gap or gap
            for pid, fd, target in found:
                yield Holder(pid, fd, self._name(pid)), target

    def _name(self, pid: int) -> str:
        if pid not in self._names:
            name = comm_of(self._kernel.files, f"/proc/{pid}")
            self._names[pid] = "" if isinstance(name, Unavailable) else name
        return self._names[pid]


def pinned_paths(kernel: GuestKernel) -> list[str]:
    """The files of the bpf file systems that the first process sees, and of the one at the usual place if
    that is mounted nowhere."""
    places = [_BPF_FS]
    data, _gap = read_lines(kernel.files, "/proc/1/mountinfo")
    for line in split_lines(data):
        with contextlib.suppress(ParseError):
            mount = parse_mount(line)
            if mount.kind == "bpf":
                places.append(mount.target)
    found: list[str] = []
    for place in dict.fromkeys(places):
        _walk(kernel, place, found, 0)
    return found


def _walk(kernel: GuestKernel, folder: str, found: list[str], depth: int) -> None:
    if depth > MOST_DEPTH or len(found) >= MOST_PINS:
        return
    try:
        names = kernel.files.listdir(folder)
    except UNREADABLE:
        return
    for name in names:
        path = f"{folder}/{name}"
        try:
            is_folder = S_ISDIR(kernel.files.stat(path).mode)
        except UNREADABLE:
            continue
        if is_folder:
            _walk(kernel, path, found, depth + 1)
        elif len(found) < MOST_PINS:
            found.append(path)


def pins(kernel: GuestKernel, things: Iterable[Object]) -> dict[Object, str]:
    """The paths at which objects are pinned; several are joined by blanks."""
    try:
        at = kernel.bpf.pins(pinned_paths(kernel), things)
    except UNREADABLE:
        return {}
    found: dict[Object, str] = {}
    for path, thing in at.items():
        found[thing] = f"{found[thing]} {path}" if thing in found else path
    return found
