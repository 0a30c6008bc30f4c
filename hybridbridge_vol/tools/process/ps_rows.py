"""The rows of ps: its tasks, what is asked of them together, and their cells."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.guest.values import Question
from hybridbridge_vol.procfs.sources import LSTAT_UID, Source, stat_fields, status_values
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Row
from hybridbridge_vol.tools.process.listing import in_light_parts, numbers
from hybridbridge_vol.tools.process.machine import Machine
from hybridbridge_vol.tools.process.ps_columns import Field, files_for
from hybridbridge_vol.tools.process.task import Task, Unread

_SHOWN = (3, 4, 7, 14, 15, 20, 22)
"""Fields of /proc/PID/stat that ps shows by default: state, parent, terminal, times, threads, start."""


class Listed(NamedTuple):
    """A process and its rows: its own, or one for each of its threads, with the thread's id."""

    pid: int
    ppid: int | None
    """None where the process could not be read."""
    rows: list[tuple[int, Row]]


def listed(machine: Machine, pids: list[int], fields: Sequence[Field], threads: bool) -> Iterator[Listed]:
    """The processes as ps lists them. `fields` begin with PID; with `threads` the thread's id comes
    second."""

    def answer(part: list[int]) -> list[Listed]:
        tasks = [Task(machine, pid, pid, f"/proc/{pid}") for pid in part]
        _expect(machine.kernel.files, tasks, fields)
        return [_listed(task, fields, threads) for task in tasks]

    return chain.from_iterable(machine.kernel.workers.map(answer, in_light_parts(pids)))


def _listed(process: Task, fields: Sequence[Field], threads: bool) -> Listed:
    other = _thread_of_another(process)
    if other:
        cells: list[Cell] = [process.pid, *[other] * (len(fields) - 1)]
        if threads:
            cells[1] = process.tid
        return Listed(process.pid, None, [(process.tid, Row(tuple(cells)))])
    rows = list(_thread_rows(process, fields)) if threads else [(process.tid, _row(process, fields))]
    try:
        return Listed(process.pid, process.stat.ppid, rows)
    except Unread:
        return Listed(process.pid, None, rows)


def _thread_of_another(process: Task) -> Unavailable | None:
    """/proc/TID exists for every thread, though no listing shows it: whose thread this is, if it is one."""
    with contextlib.suppress(Unread):
        if process.stat.vsize and process.status.tgid != process.pid:
            return Unavailable(f"{process.folder}: a thread of process {process.status.tgid}")
    return None


def _thread_rows(process: Task, fields: Sequence[Field]) -> Iterator[tuple[int, Row]]:
    """A row for each thread. Of a process that has one only, or none that can be listed, that of the process
    itself."""
    folder = f"{process.folder}/task"
    try:
        alone = process.stat.num_threads == 1
    except Unread:
        alone = True
    try:
        tids = [] if alone else numbers(process.machine.kernel.files.listdir(folder))
    except UNREADABLE as error:
        yield process.tid, _row(process, fields)
        unread = why(folder, error)
        yield process.tid, Row((process.pid, process.tid, *[unread] * (len(fields) - 2)))
        return
    if alone:
        yield process.tid, _row(process, fields)
    for tid in tids:
        yield tid, _row(Task(process.machine, process.pid, tid, f"{folder}/{tid}", process), fields)


def _row(task: Task, fields: Sequence[Field]) -> Row:
    cells = tuple(field.cell(task) for field in fields)
    sources = _exact_sources(task)
    if task.process is not task:
        command = f"{task.process.folder}/cmdline"
        sources += (source for source in task.process.sources if source.path == command)
    return Row(cells, sources=tuple(sources))


def _exact_sources(task: Task) -> list[Source]:
    """The bytes of a task's files that ps shows by default."""
    found: list[Source] = []
    for source in task.sources:
        name = source.path.rpartition("/")[2]
        if source.path.startswith("lstat "):
            found.append(Source(source.path, *LSTAT_UID))
        elif name == "stat":
            found += stat_fields(source.path, task.read(name), _SHOWN)
        elif name == "status":
            found += status_values(source.path, task.read(name), (b"Uid", b"VmSize", b"VmRSS"))
        else:
            found.append(source)
    return found


def rows_of(machine: Machine, pids: list[int], fields: Sequence[Field], threads: bool) -> Iterator[Row]:
    """A row for each process, or for each thread, with these columns."""

    def answer(part: list[int]) -> list[Row]:
        processes = [Task(machine, pid, pid, f"/proc/{pid}") for pid in part]
        if not threads:
            _expect(machine.kernel.files, processes, fields)
        tasks = chain.from_iterable(map(_threads, processes)) if threads else processes
        rows = []
        for task in tasks:
            cells = tuple(field.cell(task) for field in fields)
            rows.append(Row(cells, sources=tuple(dict.fromkeys([*task.sources, *task.process.sources]))))
        return rows

    return chain.from_iterable(machine.kernel.workers.map(answer, in_light_parts(pids)))


def _threads(process: Task) -> Iterator[Task]:
    """The threads of a process; where they cannot be listed the process, whose cells say why."""
    folder = f"{process.folder}/task"
    try:
        tids = numbers(process.machine.kernel.files.listdir(folder))
    except UNREADABLE:
        tids = []
    if not tids:
        yield process
    for tid in tids:
        yield Task(process.machine, process.pid, tid, f"{folder}/{tid}", process)


def _expect(files: Files, processes: list[Task], fields: Sequence[Field]) -> None:
    """Announce what the rows of these processes will be made from."""
    needed = {with_memory: files_for(fields, with_memory) for with_memory in (True, False)}
    if "stat" in needed[True]:
        files.expect(Question("read", f"{process.folder}/stat") for process in processes)
    questions: list[Question] = []
    for process in processes:
        has_memory = True
        if "stat" in needed[True]:
            try:
                has_memory = process.stat.vsize > 0
            except Unread:
                continue  # no cell but its id can be made
        questions += (_question(process, name) for name in needed[has_memory] if name != "stat")
    files.expect(questions)


def _question(process: Task, name: str) -> Question:
    if not name:
        return Question("lstat", process.folder)
    if name.startswith("@"):
        return Question("readlink", f"{process.folder}/{name[1:]}")
    return Question("read", f"{process.folder}/{name}")
