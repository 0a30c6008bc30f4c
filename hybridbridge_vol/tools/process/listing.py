"""What tools that ask of every process share: which processes there are, and reading what does not end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from errno import ESRCH

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import EndlessFile, Question, QuestionKind
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Option, Options

PID = Option("pid", int, "only these processes", many=True, short="p")


def numbers(names: list[str]) -> list[int]:
    """The names of a listing that are numbers, ascending: processes of /proc, threads, descriptors."""
    return sorted(int(name) for name in names if name.isdecimal() and name.isascii())


def chosen(kernel: GuestKernel, options: Options) -> list[int]:
    """The processes that `PID` names, in that order, or all. Raises OSError and CallRolledBack."""
    return list(dict.fromkeys(options["pid"])) or numbers(kernel.files.listdir("/proc"))


AT_ONCE = 64
"""Processes whose files are asked for together."""


def in_parts(pids: list[int]) -> list[list[int]]:
    """The processes, some at a time: before each part a tool tells the kernel what it will ask of them."""
    return [pids[start : start + AT_ONCE] for start in range(0, len(pids), AT_ONCE)]


def files_of(pids: Iterable[int], *names: str, kind: QuestionKind = "read") -> Iterator[Question]:
    """The question for each of these files below /proc/PID (for the folder itself: an empty name), process by
    process."""
    for pid in pids:
        for name in names:
            yield Question(kind, f"/proc/{pid}/{name}" if name else f"/proc/{pid}")


def expected(kernel: GuestKernel, pids: list[int], *names: str) -> Iterator[int]:
    """The processes one by one, the kernel having been told that these files of them will be read."""
    for part in in_parts(pids):
        kernel.files.expect(files_of(part, *names))
        yield from part


def name_of(kernel: GuestKernel, pid: int) -> Cell:
    """The name that the kernel keeps of a process."""
    path = f"/proc/{pid}/comm"
    try:
        return text(kernel.files.read(path).removesuffix(b"\n"))
    except UNREADABLE as error:
        return why(path, error)


def read_text(kernel: GuestKernel, path: str, empty: int | None = None) -> tuple[bytes, Unavailable | None]:
    """A file's whole lines, and what is wrong if they are not all: it could not be read, or does not end.
    `empty` is an errno that only says that there is nothing in it."""
    try:
        return kernel.files.read(path), None
    except EndlessFile as error:
        return error.partial[: error.partial.rfind(b"\n") + 1], why(path, error)
    except UNREADABLE as error:
        if empty is not None and isinstance(error, OSError) and error.errno == empty:
            return b"", None
        return b"", why(path, error)


def read_maps(kernel: GuestKernel, path: str) -> tuple[bytes, Unavailable | None]:
    """`read_text` of /proc/PID/maps or smaps: of a task without memory of its own Linux 6.16 says ESRCH
    (fs/proc/base.c, proc_mem_open), all others give an empty file."""
    return read_text(kernel, path, empty=ESRCH)
