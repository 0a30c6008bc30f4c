"""namespaces: every namespace and the processes in it, as lsns shows them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from errno import ENOENT
from functools import partial

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.mounts import unescape
from hybridbridge_vol.procfs.pid import parse_cmdline, parse_stat
from hybridbridge_vol.procfs.sources import Source, split_lines
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, parsed, read_lines, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.file_system.accounts import USER, Accounts
from hybridbridge_vol.tools.process.listing import files_of, in_light_parts, owner_of, processes

TYPES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
"""Names of the links in /proc/PID/ns."""
_LINK = re.compile(rf"({'|'.join(TYPES)}):\[(\d+)\]")
_NSFS = b" - nsfs "
"""In a line of mountinfo: what is mounted is a namespace."""


@dataclass
class Namespace:
    """A namespace, and what refers to it."""

    type: str
    inode: int
    pids: list[int] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """Mount points, and descriptors as PID/FD."""


class Namespaces(Tool):
    name = "namespaces"
    help = "Namespaces of every kind and the processes in them, as lsns shows them"
    notes = (
        "Reads /proc/PID/ns of all processes, and their mounts, which keep namespaces without processes "
        "alive; with --persistent their descriptors too. With any tool `--ns-of PID` answers from inside the "
        "namespaces of a process."
    )
    example = "--type net --processes"
    options = (
        Option("type", str, f"only these kinds: {', '.join(TYPES)}", many=True, short="t"),
        Option("task", int, "only the namespaces of this process", short="p"),
        Option("processes", bool, "the processes of each namespace below it"),
        Option(
            "persistent", bool,
            "also namespaces that only open descriptors keep alive (takes longer)", short="P",
        ),
    )  # fmt: skip
    columns = (
        Column("NS", "int", "inode number of the namespace, by which /proc/PID/ns names it"),
        Column("TYPE", "str", ", ".join(TYPES)),
        Column("NPROCS", "int", "number of processes in it"),
        Column("PID", "int", "the first of its processes"),
        Column("UID", "int", "effective user id of that process"),
        USER,
        Column("NSFS", "str", "mounts and descriptors (PID/FD) that also refer to the namespace"),
        Column("COMMAND", "str", "command line of that process; [name] where there is none"),
    )
    tree_column = "COMMAND"

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for kind in options["type"]:
            if kind not in TYPES:
                raise OptionError(f"--type {kind}: no such kind of namespace; there are {', '.join(TYPES)}")
        found = NamespaceSearch(kernel, options["type"] or TYPES)
        found.search(options["persistent"])
        rows = _Rows(kernel.files)
        task = options["task"]
        known = set(found.read_errors)
        for namespace in found.in_order():
            known.update(namespace.pids)
            if task is None or task in namespace.pids:
                yield rows.head(namespace)
                if options["processes"]:
                    yield from (rows.of_process(namespace, pid) for pid in namespace.pids)
        for pid, error in found.read_errors.items():
            if task in (None, pid):
                yield Row((error, error, error, pid, error, error, error, error))
        if task is not None and task not in known:
            raise OptionError(f"--task {task}: no such process in the image")


class NamespaceSearch:
    """The namespaces of some kinds, by kind and inode, each with its processes in order, including those that
    only mounts or descriptors refer to. `read_errors`: why those of some processes could not be read."""

    def __init__(self, kernel: GuestKernel, kinds: Collection[str] = TYPES) -> None:
        self._kernel = kernel
        self._kinds = kinds
        self.found: dict[tuple[str, int], Namespace] = {}
        self.read_errors: dict[int, Unavailable] = {}

    def search(self, descriptors: bool = False) -> None:
        """Find them; with `descriptors` also those that only descriptors refer to."""
        files = self._kernel.files
        pids = processes(self._kernel)
        mount_namespaces = self._of_processes(pids)
        if descriptors:
            for pid in pids:
                self._held(pid, _descriptors(files, pid))
        for pid in mount_namespaces.values():
            self._held(pid, _mounted(files, pid))

    def in_order(self) -> list[Namespace]:
        """Those that were found, by kind and inode."""
        return sorted(self.found.values(), key=lambda item: (item.type, item.inode))

    def _of_processes(self, pids: list[int]) -> dict[str, int]:
        """Enter the namespaces that processes are in; each mount namespace with a process in it."""
        mount_namespaces: dict[str, int] = {}
        own = partial(_own, self._kernel.files)
        for links, read_errors in self._kernel.workers.map(own, in_light_parts(pids)):
            self.read_errors |= read_errors
            for pid, kind, target in links:
                if namespace := self._named(target):
                    namespace.pids.append(pid)
                if kind == "mnt":
                    mount_namespaces.setdefault(target, pid)
        return mount_namespaces

    def _held(self, pid: int, references: Iterator[tuple[str, str] | Unavailable]) -> None:
        """Enter what a process's descriptors or mounts refer to."""
        for reference in references:
            if isinstance(reference, Unavailable):
                self.read_errors.setdefault(pid, reference)
                continue
            target, holder = reference
            namespace = self._named(target)
            if namespace and holder not in namespace.held:
                namespace.held.append(holder)

    def _named(self, target: str) -> Namespace | None:
        """The namespace that a link's target names; None if it names none of these kinds."""
        match = _LINK.fullmatch(target)
        if match is None or match[1] not in self._kinds:
            return None
        key = match[1], int(match[2])
        return self.found.setdefault(key, Namespace(*key))


def _own(files: Files, pids: list[int]) -> tuple[list[tuple[int, str, str]], dict[int, Unavailable]]:
    """`(pid, kind, target)` of the links to the namespaces that processes are in, and why those of some are
    missing."""
    files.expect(files_of(pids, *(f"ns/{kind}" for kind in TYPES), kind="readlink"))
    links: list[tuple[int, str, str]] = []
    read_errors: dict[int, Unavailable] = {}
    for pid in pids:
        for kind in TYPES:
            path = f"/proc/{pid}/ns/{kind}"
            try:
                links.append((pid, kind, files.readlink(path)))
            except UNREADABLE as error:
                # a kernel without this kind, or a zombie, which has left its namespaces
                if not isinstance(error, OSError) or error.errno != ENOENT:
                    read_errors.setdefault(pid, why(path, error))
    return links, read_errors


def _descriptors(files: Files, pid: int) -> Iterator[tuple[str, str] | Unavailable]:
    """The target of each descriptor, and its name; last why there are no more."""
    folder = f"/proc/{pid}/fd"
    try:
        for name in files.listdir(folder):
            yield files.readlink(f"{folder}/{name}"), f"{pid}/{name}"
    except UNREADABLE as error:
        yield why(folder, error)


def _mounted(files: Files, pid: int) -> Iterator[tuple[str, str] | Unavailable]:
    """Namespaces that are mounted where this process can see them, and where: the fourth and the fifth field
    of a line of mountinfo (Documentation/filesystems/proc.rst, 3.5)."""
    data, gap = read_lines(files, f"/proc/{pid}/mountinfo")
    if gap:
        yield gap
    for line in split_lines(data):
        fields = line.split(b" ")
        if _NSFS in line and len(fields) > 4:
            yield unescape(fields[3]), unescape(fields[4])


class _Rows:
    """Makes rows; what is shown of a process is read once."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._accounts = Accounts(files)
        self._processes: dict[int, tuple[Cell, Cell, Cell]] = {}

    def head(self, namespace: Namespace) -> Row:
        """The row of a namespace."""
        pid = namespace.pids[0] if namespace.pids else None
        held = ",".join(namespace.held) or None
        head = (namespace.inode, namespace.type, len(namespace.pids), pid)
        if pid is None:
            return Row((*head, None, None, held, None))
        uid, user, command = self._process(pid)
        return Row((*head, uid, user, held, command), sources=_sources(namespace, pid))

    def of_process(self, namespace: Namespace, pid: int) -> Row:
        """The row of a process in a namespace, below it."""
        uid, user, command = self._process(pid)
        cells = (namespace.inode, namespace.type, None, pid, uid, user, None, command)
        return Row(cells, 1, _sources(namespace, pid))

    def _process(self, pid: int) -> tuple[Cell, Cell, Cell]:
        """A process's effective user, the user's name and its command line."""
        if pid not in self._processes:
            uid = owner_of(self._files, f"/proc/{pid}")
            self._processes[pid] = uid, self._accounts.user_cell(uid), _command(self._files, pid)
        return self._processes[pid]


def _command(files: Files, pid: int) -> Cell:
    arguments = parsed(files, f"/proc/{pid}/cmdline", parse_cmdline)
    if isinstance(arguments, Unavailable):
        return arguments
    if line := " ".join(arguments):
        return line
    stat = parsed(files, f"/proc/{pid}/stat", parse_stat)
    return stat if isinstance(stat, Unavailable) else f"[{stat.comm}]"


def _sources(namespace: Namespace, pid: int) -> tuple[Source, ...]:
    return Source(f"readlink /proc/{pid}/ns/{namespace.type}"), Source(f"/proc/{pid}/cmdline")


TOOL = Namespaces()
