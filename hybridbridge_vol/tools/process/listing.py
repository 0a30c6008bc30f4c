"""What tools that ask about every process share: which processes there are, and announcing their files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from errno import ESRCH

from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.guest.values import Question, QuestionKind
from hybridbridge_vol.procfs.pid import parse_comm
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import attempt, parsed, read_lines
from hybridbridge_vol.toolkit.tool import Option, Options

PID = Option("pid", int, "only these processes", many=True, short="p")

MAX_NAMED = 256
"""Processes that are named in one reason."""
AT_ONCE = 64
"""Processes whose files are asked for together."""
WORTH_SHARING = 192
"""More processes than this are shared out among processors where little is asked of each: a forked worker
costs as much processor time (60 to 90 ms, for its copies of pages) as half of them."""


def numbers(names: Iterable[str]) -> list[int]:
    """The names of a listing that are numbers, ascending: processes of /proc, threads, descriptors."""
    return sorted(int(name) for name in names if name.isdecimal() and name.isascii())


def processes(kernel: GuestKernel) -> list[int]:
    """All processes, ascending, as /proc lists them. Where the list does not end well those up to there, and
    the answer's last row says so. Raises OSError and CallRolledBack."""
    try:
        return numbers(kernel.files.listdir("/proc"))
    except IncompleteDirectory as error:
        found = numbers(error.names)
        lack = f"processes may be missing: {error.filename}: {error.strerror}"
        kernel.allowance.lacking = f"{lack}{_of_the_list(kernel, found)}"
        return found


def _of_the_list(kernel: GuestKernel, found: Iterable[int]) -> str:
    """Which processes the kernel's list of tasks has besides, as far as that says."""
    listed = attempt("task list", lambda: kernel.tasks.listed().tasks)
    if isinstance(listed, Unavailable):
        return ""
    others = sorted({task.pid for task in listed if task.pid > 0}.difference(found))
    if not others:
        return ""
    more = f" and {len(others) - MAX_NAMED:,} more" if len(others) > MAX_NAMED else ""
    return f"; its list of tasks has {len(others):,} others: {' '.join(map(str, others[:MAX_NAMED]))}{more}"


def chosen(kernel: GuestKernel, options: Options) -> list[int]:
    """The processes that `PID` names, in that order, or all: `processes`."""
    return list(dict.fromkeys(options["pid"])) or processes(kernel)


def in_parts(pids: list[int]) -> list[list[int]]:
    """The processes, `AT_ONCE` at a time."""
    return [pids[start : start + AT_ONCE] for start in range(0, len(pids), AT_ONCE)]


def in_light_parts(pids: list[int]) -> list[list[int]]:
    """The same for workers that ask little of each process: few of them are one part."""
    return in_parts(pids) if len(pids) > WORTH_SHARING else [pids]


def files_of(pids: Iterable[int], *names: str, kind: QuestionKind = "read") -> Iterator[Question]:
    """The question about each of these files below /proc/PID (about the folder itself for an empty name),
    process by process."""
    for pid in pids:
        for name in names:
            yield Question(kind, f"/proc/{pid}/{name}" if name else f"/proc/{pid}")


def expected(files: Files, pids: list[int], *names: str) -> Iterator[int]:
    """The processes one by one; that these files of theirs will be read is announced before."""
    for part in in_parts(pids):
        files.expect(files_of(part, *names))
        yield from part


def comm_of(files: Files, folder: str) -> str | Unavailable:
    """The name that the kernel stores for the task of a folder below /proc."""
    return parsed(files, f"{folder}/comm", parse_comm)


def names_of_kernel_threads(files: Files, names: Mapping[int, str]) -> dict[int, str]:
    """The same as the kernel shows them, of threads with these names in their `task_struct`s: those have 15
    characters, and a worker's not what it works on (fs/proc/array.c, `proc_task_name`). A name stays as it is
    where /proc has another process by that id, or none."""
    shown = {pid: comm_of(files, f"/proc/{pid}") for pid in expected(files, list(names), "comm")}
    return {
        pid: longer if isinstance(longer := shown[pid], str) and longer.startswith(name) else name
        for pid, name in names.items()
    }


def owner_of(files: Files, folder: str) -> int | Unavailable:
    """The effective user of a task: the owner of its folder (fs/proc/base.c, `task_dump_owner`)."""
    return attempt(folder, lambda: files.stat(folder).uid)


def read_maps(files: Files, path: str) -> tuple[bytes, Unavailable | None]:
    """`read_lines` of /proc/PID/maps or smaps. For a task without memory of its own the file is empty; Linux
    6.16 and later say ESRCH (fs/proc/base.c, proc_mem_open)."""
    return read_lines(files, path, empty=ESRCH)
