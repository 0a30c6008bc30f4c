"""The rows of malfind: each process's mappings, program and environment, looked at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from errno import ENOENT, ESRCH
from functools import cache
from itertools import count

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.maps import DELETED, Mapping, entries
from hybridbridge_vol.procfs.pagemap import PRESENT
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, why
from hybridbridge_vol.toolkit.tool import Row
from hybridbridge_vol.tools.process.listing import comm_of, expected, files_of, read_maps
from hybridbridge_vol.tools.user_memory import preloading
from hybridbridge_vol.tools.user_memory.code_pages import Changes, changes, changes_of_vdso
from hybridbridge_vol.tools.user_memory.disassembly import LONGEST, MOST_INSTRUCTIONS, disassembled
from hybridbridge_vol.tools.user_memory.executable_mappings import oddities
from hybridbridge_vol.tools.user_memory.jit import engines
from hybridbridge_vol.tools.user_memory.kernels_vdso import kernels_vdso
from hybridbridge_vol.tools.user_memory.pagemap import PagesOfCode
from hybridbridge_vol.tools.user_memory.preloading import Preloaded
from hybridbridge_vol.tools.user_memory.program_entry import entry_point, replaced
from hybridbridge_vol.tools.user_memory.remote_shells import connection_of, is_shell
from hybridbridge_vol.tools.user_memory.uprobes import Breakpoint, uprobes
from hybridbridge_vol.units import PAGE_SIZE

_SHOWN = 16
"""Bytes of what is found that a row shows."""
VDSO = "[vdso]"
_AS_LISTED = re.compile(r"\[[^\[\]]+\]")
_KERNELS_THREADS = re.compile(
    r"kthreadd|k(worker|softirqd)/\S+|(migration|cpuhp|idle_inject|watchdog|rcuop|rcuos|rcuog|irq)/\S+"
    r"|rcu_(sched|preempt|gp|par_gp|tasks_\S*)|kswapd\d+|kcompactd\d+|kdevtmpfs|kauditd|khungtaskd"
    r"|khugepaged|ksmd|kblockd|kintegrityd|kthrotld|oom_reaper|writeback|pool_workqueue_release"
)
"""Threads that every machine has."""
_EXCUSED = ("anonymous", "writable", "memfd")
"""What engines that make code do with their memory."""
Makers = Callable[[], list[str]]
"""The engines of a process that make code."""
_NO_MEMORY = (ESRCH, ENOENT)
"""Errnos of a task without memory of its own."""


@dataclass
class _Found:
    """A row about a mapping or a library, before the process's name is known."""

    kinds: list[str]
    why: Cell
    mapping: Mapping | None = None
    path: str = ""
    held: int | None = None
    at: int | None = None
    content: bytes = b""
    sources: tuple[Source, ...] = ()
    breakpoints: tuple[int, ...] = ()
    """Where they are, if nothing else of the mapping was changed."""


def of_processes(kernel: GuestKernel, pids: list[int], disassemble: bool) -> list[Row]:
    """The rows about some processes."""
    files = kernel.files
    files.expect(files_of(pids, "exe", kind="readlink"))
    rows = []
    placed = cache(lambda: uprobes(kernel))
    vdso = cache(lambda: kernels_vdso(kernel.bridge))
    for pid in expected(files, pids, "maps", "comm", "auxv", "stat", "environ", "cmdline"):
        found = list(_of_process(files, pid, vdso))
        name = comm_of(files, f"/proc/{pid}")
        found += _of_name(files, pid, name)
        for item in found:
            _explain(item, placed)
        rows += [_row(files, pid, name, item, disassemble) for item in found]
    return rows


def _explain(found: _Found, placed: Callable[[], frozenset[Breakpoint]]) -> None:
    """Say so where all that was changed are breakpoints that the kernel's own uprobes have put there."""
    mapping = found.mapping
    if mapping is None or not found.breakpoints:
        return
    offsets = (vaddr - mapping.start_vaddr + mapping.offset for vaddr in found.breakpoints)
    file = mapping.major, mapping.minor, mapping.inode
    if {Breakpoint(*file, offset) for offset in offsets} <= placed():
        found.kinds = ["uprobe"]
        found.why = f"put there by the kernel's uprobes: {found.why}"


def of_all(files: Files, disassemble: bool) -> Iterator[Row]:
    """The rows about libraries that every program loads."""
    path = f"{files.process}/root/{preloading.SYSTEM_WIDE}"
    try:
        data = files.read(path)
    except UNREADABLE as error:
        if not isinstance(error, OSError) or error.errno != ENOENT:
            yield _row(files, None, None, _Found(["preloaded"], why(path, error)), disassemble)
        return
    for item in preloading.of_file(path, data[: preloading.MAX_SIZE]):
        yield _row(files, None, None, _of_library(item, None), disassemble)


def _of_name(files: Files, pid: int, name: Cell) -> Iterator[_Found]:
    """A process with memory of its own whose name, or whose arguments, are those of a thread of the kernel,
    and a shell that somebody far away works with."""
    path, program = f"/proc/{pid}/cmdline", attempt("exe", lambda: files.readlink(f"/proc/{pid}/exe"))
    if isinstance(program, Unavailable):
        return  # a thread of the kernel has none
    if is_shell(program):
        try:
            connection = connection_of(files, pid)
        except UNREADABLE as error:
            yield _Found(["unreadable"], why(f"/proc/{pid}/fd", error), path=program)
        else:
            if connection:
                reason = f"its standard input and output are the connection {connection}"
                yield _Found(["remote shell"], reason, path=program)
    if isinstance(name, str) and _KERNELS_THREADS.fullmatch(name):
        yield _Found(
            ["disguised"], f"it is named like a thread of the kernel, and runs {program}", path=program
        )
        return
    arguments = attempt(path, lambda: files.read(path))
    if isinstance(arguments, bytes):
        words = arguments.rstrip(b"\0").decode("utf-8", "surrogateescape")
        if _AS_LISTED.fullmatch(words):
            reason = f"its arguments are {words}, as ps shows threads of the kernel"
            yield _Found(["disguised"], reason, path=program, sources=(Source(path),))


def _of_process(files: Files, pid: int, vdso: Callable[[], tuple[bytes, ...]]) -> Iterator[_Found]:
    path = f"/proc/{pid}/maps"
    data, read_error = read_maps(files, path)
    listed = list(entries(path, data))
    mappings = [entry.mapping for entry in listed if isinstance(entry.mapping, Mapping)]
    code = [(it.start_vaddr, it.end_vaddr) for it in mappings if "x" in it.permissions]
    pages = PagesOfCode(files, pid, code)
    makers = cache(lambda: engines(item.path for item in mappings))
    numbers = count()
    for entry in listed:
        if isinstance(entry.mapping, Mapping):
            kinds = oddities(next(numbers), mappings)
            if entry.mapping.path == VDSO:
                found = _of_vdso(files, pid, entry.mapping, pages, vdso)
            else:
                found = _of_mapping(files, pid, entry.mapping, kinds, makers, pages)
            if found:
                found.sources = (entry.source,)
                yield found
        else:
            yield _Found(["unreadable"], Unavailable(f"{path}: {entry.mapping}"), sources=(entry.source,))
    if read_error:
        yield _Found(["unreadable"], read_error)
    if mappings:
        yield from _of_program(files, pid, mappings)
        yield from _of_environment(files, pid, mappings)


def _of_mapping(
    files: Files, pid: int, mapping: Mapping, kinds: list[str], makers: Makers, pages: PagesOfCode
) -> _Found | None:
    """`kinds` are what is odd about the mapping."""
    if "x" not in mapping.permissions:
        return None
    try:
        if kinds:
            return _odd(files, pid, mapping, kinds, makers, pages)
        if mapping.inode and mapping.permissions.endswith("p"):
            changed = changes(files, pid, mapping, pages)
            if changed:
                at, content = (changed.first[0], changed.first[1]) if changed.first else (None, b"")
                kept = changed.private * PAGE_SIZE // 1024
                return _Found(
                    _kinds(changed), changed.in_words(), mapping, mapping.path, kept, at, content,
                    breakpoints=changed.breakpoints,
                )  # fmt: skip
    except UNREADABLE as error:
        reason = why(f"/proc/{pid}/pagemap", error)
        return _Found(kinds or ["unreadable"], reason, mapping, mapping.path)
    return None


def _of_vdso(
    files: Files, pid: int, mapping: Mapping, pages: PagesOfCode, vdso: Callable[[], tuple[bytes, ...]]
) -> _Found | None:
    """The vDSO is the kernel's own memory until somebody writes to it by ptrace(2) or /proc/PID/mem."""
    try:
        changed = changes_of_vdso(files, pid, mapping, pages, vdso)
    except UNREADABLE as error:
        return _Found(["unreadable"], why(f"/proc/{pid}/pagemap", error), mapping, mapping.path)
    if not changed:
        return None
    at, content = (changed.first[0], changed.first[1]) if changed.first else (None, b"")
    kept = changed.private * PAGE_SIZE // 1024
    return _Found(_kinds(changed), changed.in_words(), mapping, mapping.path, kept, at, content)


def _kinds(changed: Changes) -> list[str]:
    """What cannot be compared has not been found to differ."""
    return ["modified" if changed.ranges else "unreadable"]


def _odd(
    files: Files, pid: int, mapping: Mapping, kinds: list[str], makers: Makers, pages: PagesOfCode
) -> _Found | None:
    """A mapping that no file explains; None if it is memory that was never touched."""
    there = [item for part in pages.pages(mapping.start_vaddr, mapping.end_vaddr) for item in part.held()]
    if not there and not mapping.inode:
        return None
    held = len(there) * PAGE_SIZE // 1024
    first = next((vaddr for vaddr, entry in there if entry & PRESENT), None)
    words = []
    engines_there = makers() if set(kinds) <= set(_EXCUSED) else []
    if engines_there:
        kinds = ["jit", *kinds]
        words.append(f"the process has {', '.join(engines_there)} mapped, which makes code at run time")
    found = _Found(kinds, None, mapping, mapping.path, held)
    if first is None:
        words.append("swapped out" if held else "never touched")
    else:
        content = attempt(f"/proc/{pid}/mem", lambda: files.read_at(f"/proc/{pid}/mem", first, PAGE_SIZE))
        if isinstance(content, Unavailable):
            found.why = content
            return found
        words += _look_at(found, first, content)
    if "deleted" in kinds and _is_there(files, pid, mapping.path.removesuffix(DELETED)):
        words.append("another file has that name now")
    found.why = "; ".join(words) or None
    return found


def _look_at(found: _Found, vaddr: int, page: bytes) -> list[str]:
    """Note where a page's content begins; what there is to say of it."""
    used = len(page) - len(page.lstrip(b"\0"))
    found.at, found.content = vaddr + used % PAGE_SIZE, page[used : used + _SHOWN]
    if page.startswith(b"\x7fELF"):
        return ["an ELF file in memory"]
    return ["zeros"] if used == len(page) else []


def _is_there(files: Files, pid: int, path: str) -> bool:
    try:
        files.stat(f"/proc/{pid}/root{path}")
    except UNREADABLE:
        return False
    return True


def _of_program(files: Files, pid: int, mappings: list[Mapping]) -> Iterator[_Found]:
    auxv, exe = f"/proc/{pid}/auxv", f"/proc/{pid}/exe"
    try:
        data, program = files.read(auxv), files.readlink(exe)
    except UNREADABLE as error:
        if not isinstance(error, OSError) or error.errno not in _NO_MEMORY:
            yield _Found(["unreadable"], why(auxv, error))
        return
    entry = entry_point(data)
    if not entry:
        return
    mapping, reason = replaced(program, entry, mappings)
    if reason:
        content = attempt(f"/proc/{pid}/mem", lambda: files.read_at(f"/proc/{pid}/mem", entry, _SHOWN))
        shown = content if isinstance(content, bytes) else b""
        path = mapping.path if mapping else ""
        yield _Found(["hollowed"], reason, mapping, path, None, entry, shown, (Source(auxv), Source(exe)))


def _of_environment(files: Files, pid: int, mappings: list[Mapping]) -> Iterator[_Found]:
    path = f"/proc/{pid}/environ"
    try:
        data = files.read(path)
    except UNREADABLE as error:
        yield _Found(["unreadable"], why(path, error))
        return
    for item in preloading.of_environment(path, data):
        yield _of_library(item, mappings)


def _of_library(item: Preloaded, mappings: list[Mapping] | None) -> _Found:
    """A row about a preloaded library; `mappings` are those of the process that was to load it."""
    words = f"named by {item.asked_by}"
    mapped = None
    if mappings is not None:
        name = item.library.rpartition("/")[2]
        mapped = next(
            (it for it in mappings if it.path.removesuffix(DELETED).rpartition("/")[2] == name), None
        )
        words += "" if mapped else "; not mapped"
    return _Found(["preloaded"], words, mapped, item.library, sources=(item.source,))


def _row(files: Files, pid: int | None, name: Cell, found: _Found, disassemble: bool) -> Row:
    mapping = found.mapping
    place = (mapping.start_vaddr, mapping.end_vaddr, mapping.permissions) if mapping else (None, None, None)
    shown = found.content[:_SHOWN].hex() or None
    cells: tuple[Cell, ...] = (
        pid, name, ",".join(found.kinds), *place, found.held, found.at, shown, found.why, found.path or None,
    )  # fmt: skip
    if disassemble:
        cells = (*cells, _code(files, pid, found.at))
    return Row(cells, sources=found.sources)


def _code(files: Files, pid: int | None, vaddr: int | None) -> Cell:
    if pid is None or vaddr is None:
        return None
    size = min(MOST_INSTRUCTIONS * LONGEST, PAGE_SIZE - vaddr % PAGE_SIZE)
    path = f"/proc/{pid}/mem"
    code = attempt(path, lambda: files.read_at(path, vaddr, size))
    return code if isinstance(code, Unavailable) else disassembled(code, vaddr)
