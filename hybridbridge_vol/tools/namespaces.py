"""namespaces: every namespace and the processes in it, as lsns shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from errno import ENOENT
from functools import partial

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import parse_cmdline, parse_stat, text
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import files_of, in_parts

TYPES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
"""Names of the links in /proc/PID/ns."""
_LINK = re.compile(rf"({'|'.join(TYPES)}):\[(\d+)\]")
_NSFS = " - nsfs "
"""In a line of mountinfo: what is mounted is a namespace."""


@dataclass
class Namespace:
    """A namespace, by what leads to it."""

    type: str
    inode: int
    pids: list[int] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """Mount points, and descriptors as PID/FD."""


class Namespaces(Tool):
    name = "namespaces"
    help = "Namespaces of every kind and the processes in them, as lsns shows them"
    notes = (
        "Reads /proc/PID/ns of all processes, and their mounts, which keep namespaces alive that no process is in; with "
        "--persistent their descriptors too. `--ns-of PID` with any tool answers from inside the namespaces of a process."
    )
    example = "--type net --processes"
    options = (
        Option("type", str, f"only these kinds: {', '.join(TYPES)}", many=True, short="t"),
        Option("task", int, "only the namespaces of this process", short="p"),
        Option("processes", bool, "below each namespace its processes"),
        Option(
            "persistent",
            bool,
            "also namespaces that only open descriptors keep alive (takes longer)",
            short="P",
        ),
    )
    columns = (
        Column("NS", "int", "the namespace's inode number, by which /proc/PID/ns names it"),
        Column("TYPE", "str", ", ".join(TYPES)),
        Column("NPROCS", "int", "processes in it"),
        Column("PID", "int", "the first of them"),
        Column("UID", "int", "its effective user id"),
        Column("NSFS", "str", "mounts and descriptors (PID/FD) that hold the namespace too"),
        Column("COMMAND", "str", "its command line; [name] where there is none"),
    )
    tree_column = "COMMAND"

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for kind in options["type"]:
            if kind not in TYPES:
                raise OptionError(f"--type {kind}: no such kind of namespace; there are {', '.join(TYPES)}")
        kinds = options["type"] or TYPES
        found, gaps = all_namespaces(kernel, kinds, options["persistent"])
        processes: dict[int, tuple[Cell, Cell]] = {}
        for namespace in sorted(found.values(), key=lambda item: (item.type, item.inode)):
            if options["task"] is not None and options["task"] not in namespace.pids:
                continue
            first = namespace.pids[0] if namespace.pids else None
            yield self._row(kernel, namespace, first, processes, head=True)
            if options["processes"]:
                for pid in namespace.pids:
                    yield self._row(kernel, namespace, pid, processes, head=False)
        for pid, gap in gaps.items():
            if options["task"] in (None, pid):
                yield Row((gap, gap, gap, pid, gap, gap, gap))
        if (
            options["task"] is not None
            and options["task"] not in gaps
            and not any(options["task"] in item.pids for item in found.values())
        ):
            raise OptionError(f"--task {options['task']}: no such process in the image")

    def _row(
        self,
        kernel: GuestKernel,
        namespace: Namespace,
        pid: int | None,
        known: dict[int, tuple[Cell, Cell]],
        head: bool,
    ) -> Row:
        uid: Cell = None
        command: Cell = None
        sources: tuple[Source, ...] = ()
        if pid is not None:
            if pid not in known:
                known[pid] = _described(kernel, pid)
            uid, command = known[pid]
            sources = (Source(f"readlink /proc/{pid}/ns/{namespace.type}"), Source(f"/proc/{pid}/cmdline"))
        count = len(namespace.pids) if head else None
        held = ",".join(namespace.held) or None if head else None
        return Row(
            (namespace.inode, namespace.type, count, pid, uid, held, command), 0 if head else 1, sources
        )


def all_namespaces(
    kernel: GuestKernel, kinds: tuple[str, ...] = TYPES, descriptors: bool = False
) -> tuple[dict[tuple[str, int], Namespace], dict[int, Unavailable]]:
    """The namespaces of these kinds by kind and inode, each with its processes in order, those included that
    only mounts, or also `descriptors`, lead to; and why those of some processes could not be read."""
    found: dict[tuple[str, int], Namespace] = {}
    gaps: dict[int, Unavailable] = {}

    def note(target: str) -> Namespace | None:
        match = _LINK.fullmatch(target)
        if match is None or match[1] not in kinds:
            return None
        key = match[1], int(match[2])
        return found.setdefault(key, Namespace(*key))

    pids = sorted(int(name) for name in kernel.files.listdir("/proc") if name.isdecimal() and name.isascii())
    mounts: dict[str, int] = {}
    for links, unread in kernel.workers.map(partial(_own, kernel), in_parts(pids)):
        gaps |= unread
        for pid, kind, target in links:
            namespace = note(target)
            if namespace:
                namespace.pids.append(pid)
            if kind == "mnt":
                mounts.setdefault(target, pid)
    for pid in pids if descriptors else ():
        for target, holder in _descriptors(kernel, pid, gaps):
            if namespace := note(target):
                namespace.held.append(holder)
    for pid in mounts.values():
        for target, place in _mounted(kernel, pid, gaps):
            if (namespace := note(target)) and place not in namespace.held:
                namespace.held.append(place)
    return found, gaps


def _own(kernel: GuestKernel, pids: list[int]) -> tuple[list[tuple[int, str, str]], dict[int, Unavailable]]:
    """`(pid, kind, target)` of the links to the namespaces that processes are in, and why those of some are
    not there."""
    kernel.files.expect(files_of(pids, *(f"ns/{kind}" for kind in TYPES), kind="readlink"))
    links: list[tuple[int, str, str]] = []
    gaps: dict[int, Unavailable] = {}
    for pid in pids:
        for kind in TYPES:
            path = f"/proc/{pid}/ns/{kind}"
            try:
                links.append((pid, kind, kernel.files.readlink(path)))
            except UNREADABLE as error:
                # a kernel without this kind, or a zombie, which has left its namespaces
                if not isinstance(error, OSError) or error.errno != ENOENT:
                    gaps.setdefault(pid, why(path, error))
    return links, gaps


def _descriptors(kernel: GuestKernel, pid: int, gaps: dict[int, Unavailable]) -> Iterator[tuple[str, str]]:
    folder = f"/proc/{pid}/fd"
    try:
        for name in kernel.files.listdir(folder):
            yield kernel.files.readlink(f"{folder}/{name}"), f"{pid}/{name}"
    except UNREADABLE as error:
        gaps.setdefault(pid, why(folder, error))


def _mounted(kernel: GuestKernel, pid: int, gaps: dict[int, Unavailable]) -> Iterator[tuple[str, str]]:
    """Namespaces that are mounted where this process can see them: of each line of mountinfo the fourth field
    is what of the file system is mounted, the fifth where (Documentation/filesystems/proc.rst, 3.5)."""
    path = f"/proc/{pid}/mountinfo"
    try:
        lines = text(kernel.files.read(path)).splitlines()
    except UNREADABLE as error:
        gaps.setdefault(pid, why(path, error))
        return
    for line in lines:
        fields = line.split(" ")
        if _NSFS in line and len(fields) > 4:
            yield fields[3], fields[4]


def _described(kernel: GuestKernel, pid: int) -> tuple[Cell, Cell]:
    """A process's effective user and its command line."""
    uid: Cell
    command: Cell
    try:
        uid = kernel.files.stat(f"/proc/{pid}").uid
    except UNREADABLE as error:
        uid = why(f"/proc/{pid}", error)
    path = f"/proc/{pid}/cmdline"
    try:
        command = " ".join(parse_cmdline(kernel.files.read(path)))
        if not command:
            path = f"/proc/{pid}/stat"
            command = f"[{parse_stat(kernel.files.read(path)).comm}]"
    except UNREADABLE as error:
        command = why(path, error)
    return uid, command


TOOL = Namespaces()
