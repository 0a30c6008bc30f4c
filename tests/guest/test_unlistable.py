"""Listing /proc around processes that the kernel cannot list."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from answers import ask
from blank_page import blank_copy, kernel_paddr
from default_run import in_default_run
from generations import GENERATIONS, Lab
from hypothesis import given
from hypothesis import strategies as st
from image_editor import hidden

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.files import SnapshotFiles
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.guest.unlistable import (
    MOST_UNLISTABLE,
    PID_MAX,
    TABLE_IDS,
    TGID_OFFSET,
    listable_entries,
)
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.units import PAGE_SIZE

FILES = ["version", "stat"]
EACH = in_default_run(sorted(GENERATIONS), "6.1 two CPUs")


@pytest.mark.parametrize("name", EACH)
def test_where_processes_are_in_the_directory(lab: Lab, name: str) -> None:
    files = lab.session(name).files.of_the_kernel
    assert isinstance(files, SnapshotFiles)
    listed = [(behind, entry) for behind, entry in files._entries("/proc") if entry.isdecimal()]
    assert len(listed) > 50
    assert all(behind == int(after) + TGID_OFFSET for (behind, _), (_, after) in pairwise(listed))


def test_processes_whose_memory_was_not_read_are_named_and_no_others(lab: Lab, tmp_path: Path) -> None:
    session = lab.session("6.1 two CPUs")
    names = session.files.listdir("/proc")
    tasks = session.tasks.listed().tasks
    lost = [kernel_paddr(session, task.task_vaddr) for task in (tasks[len(tasks) // 2], tasks[-3])]
    copy = blank_copy(session, lost, tmp_path / "blank.raw")
    with open_session(copy, lab.store.root) as other:
        try:
            found = other.files.listdir("/proc")
        except IncompleteDirectory as error:
            found = error.names
        assert sorted(found) == sorted(names)
    copy.unlink()


def tables_of_pages(session: Session) -> dict[int, set[int]]:
    """By the address of each page that holds tables of process ids, or parts of them, their numbers; not the
    page of the root above them."""
    memory = TypedMemory(session.bridge)
    root = memory.get(memory.symbol("init_pid_ns"), "pid_namespace", "idr.idr_rt.xa_head") & ~3
    slots = memory.pointers(memory.at(root, "xa_node", "slots"), TABLE_IDS)
    size = memory.types.size("xa_node")
    found: dict[int, set[int]] = {}
    for number, slot in enumerate(slots):
        if table := slot & ~3:
            for page in {table & -PAGE_SIZE, (table + size - 1) & -PAGE_SIZE}:
                found.setdefault(page, set()).add(number)
    return {page: numbers for page, numbers in found.items() if page != root & -PAGE_SIZE}


@pytest.mark.parametrize("name", EACH)
def test_whichever_tables_of_ids_were_not_read_all_other_processes_are_listed_and_no_threads(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    """The first table has 63 ids, as no process is 0; several tables can be in one page; behind the last
    process that could be listed there are threads, whose ids can be looked up."""
    session = lab.session(name)
    pids = set(map(int, filter(str.isdecimal, session.files.listdir("/proc"))))
    for page, lost in tables_of_pages(session).items():
        copy = blank_copy(session, [kernel_paddr(session, page)], tmp_path / "blank.raw")
        with open_session(copy, lab.store.root) as other:
            with pytest.raises(
                IncompleteDirectory, match="process ids from .* cannot be looked up: "
            ) as raised:
                other.files.listdir("/proc")
            listed = set(map(int, filter(str.isdecimal, raised.value.names)))
            assert listed == {pid for pid in pids if pid // TABLE_IDS not in lost}
        copy.unlink()


def test_processes_whose_table_of_ids_was_not_read_are_counted_in_one_row(lab: Lab, tmp_path: Path) -> None:
    """Of 64 ids nobody knows which are processes; each was a row, in each tool."""
    session = lab.session("6.1 two CPUs")
    pids = set(map(int, filter(str.isdecimal, session.files.listdir("/proc"))))
    page, lost = min((page, lost) for page, lost in tables_of_pages(session).items() if 0 not in lost)
    first = TABLE_IDS * min(lost)
    copy = blank_copy(session, [kernel_paddr(session, page)], tmp_path / "blank.raw")
    hit = sorted(pid for pid in pids if pid // TABLE_IDS in lost)
    with open_session(copy, lab.store.root) as other:
        with pytest.raises(
            IncompleteDirectory, match=f"process ids from {first} to .* cannot be looked up: "
        ) as raised:
            other.files.listdir("/proc")
        assert set(map(int, filter(str.isdecimal, raised.value.names))) == pids.difference(hit)
        rows = list(limited_rows(tools.load("ps"), other, tools.load("ps").defaults()))
        lacks = [cells for row in rows if isinstance(cells := row.cells[0], Unavailable)]
        assert len(lacks) == 1 and f"its list of tasks has {len(hit)} others: {hit[0]} " in lacks[0].reason
        assert not [row for row in hidden(other) if not any(isinstance(cell, Unavailable) for cell in row)]
        assert {row["PID"] for row in ask(other, "credentials")} == {
            row["PID"] for row in ask(session, "credentials")
        }
    copy.unlink()


class Proc:
    """A /proc with these processes, some of which end the call that comes to them."""

    def __init__(self, pids: set[int], bad: set[int]) -> None:
        self.places = list(enumerate(FILES)) + [(pid + TGID_OFFSET, str(pid)) for pid in sorted(pids)]
        self.bad = {str(pid) for pid in bad}
        self.calls = 0

    def exists(self, pid: int) -> bool:
        return str(pid) in {name for _place, name in self.places}

    def entries_from(self, position: int, size: int) -> list[tuple[int, str]] | None:
        self.calls += 1
        found: list[tuple[int, str]] = []
        for place, name in self.places:
            if place < position:
                continue
            if len(found) == size // 32:
                break
            if name in self.bad:
                return None
            found.append((place, name))
        return [(place + 1, name) for place, name in found]


@given(st.sets(st.integers(1, 40000), max_size=60), st.data())
def test_every_process_is_named_whichever_entries_cannot_be_listed(
    pids: set[int], data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.sampled_from(sorted(pids)), max_size=8)) if pids else set()
    proc = Proc(pids, bad)
    names = [name for _next, name in listable_entries(proc.entries_from, proc.exists)]
    assert names == FILES + [str(pid) for pid in sorted(pids)]


def test_a_listing_without_unlistable_entries_costs_one_extra_call() -> None:
    proc = Proc(set(range(1, 100)), set())
    list(listable_entries(proc.entries_from, proc.exists))
    assert proc.calls == 2


def test_the_largest_process_id_may_be_unlistable() -> None:
    proc = Proc({1, PID_MAX}, {PID_MAX})
    assert [name for _next, name in listable_entries(proc.entries_from, proc.exists)] == [
        *FILES,
        "1",
        str(PID_MAX),
    ]


def test_a_listing_that_fails_everywhere_ends() -> None:
    assert list(listable_entries(lambda _position, _size: None, lambda _pid: True)) == []


def test_a_directory_of_unlistable_entries_is_given_up() -> None:
    """Each of them costs a call that is rolled back."""
    proc = Proc(set(range(1, 3000)), set(range(1, 3000)))
    names = [name for _next, name in listable_entries(proc.entries_from, proc.exists)]
    assert len(names) == len(FILES) + MOST_UNLISTABLE


def test_no_process_is_looked_up_twice() -> None:
    """Each look-up may be rolled back: a table that cannot be read is looked at with each of its ids."""
    proc = Proc(set(range(1, 3 * TABLE_IDS, 2)), set(range(1, 3 * TABLE_IDS, 2)))
    asked: list[int] = []

    def exists(pid: int) -> str:
        asked.append(pid)
        return "not in memory"

    list(listable_entries(proc.entries_from, exists))
    assert len(asked) == len(set(asked))
