"""Pages that an image has as zeros and that no kernel has so are missing: what rests on them says so."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from blank_page import blank_copy, kernel_paddr
from default_run import in_default_run
from generations import GENERATIONS, Lab

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.snapshot.blank_pages import WHY, zero_pages
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.units import PAGE_SIZE

EACH = in_default_run(sorted(GENERATIONS), "6.1 two CPUs")
POINTERS = {"a task": None, "its credentials": "cred", "its files": "files", "its signals": "signal"}


def ask(session: Session, name: str) -> list[tuple[Any, ...]]:
    """The rows of a tool."""
    tool = tools.load(name)
    return [row.cells for row in tool.rows(session, tool.defaults())]


def without(session: Session, vaddr: int, copy: Path) -> Path:
    """A copy of a session's image with zeros in the page of an address."""
    return blank_copy(session, [kernel_paddr(session, vaddr)], copy)


def holds(session: Session, page: int) -> bool:
    """Whether a page of zeros counts as missing."""
    blank = session.bridge.virtual_memory.blank
    assert blank is not None
    return blank.holds(page)


def test_only_whole_pages_of_zeros_count() -> None:
    full, empty, last = b"\1" + bytes(PAGE_SIZE - 1), bytes(PAGE_SIZE), bytes(PAGE_SIZE - 1) + b"\1"
    assert list(zero_pages(full + empty + last + empty)) == [PAGE_SIZE, 3 * PAGE_SIZE]
    assert list(zero_pages(empty[:-1])) == []


@pytest.mark.parametrize("name", EACH)
def test_no_page_that_the_kernel_uses_counts_as_missing(lab: Lab, name: str) -> None:
    """Of memory that is really empty, as nearly a half of these guests' is, nothing is taken for missing; but
    for slabs whose objects wait for use, which nothing leads to (since 6.18)."""
    session = lab.session(name)
    blank, image = session.bridge.virtual_memory.blank, session.bridge.image
    assert blank is not None
    empty = [
        paddr + at
        for run in image.stored
        for paddr in range(run.paddr, run.end_paddr, 2 << 20)
        for at in zero_pages(image.read(paddr, min(2 << 20, run.end_paddr - paddr)))
    ]
    assert len(empty) > 1000
    assert len([page for page in empty if blank.holds(page)]) < (32 if name == "7.x" else 1)


@pytest.mark.parametrize("name", EACH)
def test_files_whose_part_of_the_memory_map_was_not_read_lack_it_and_are_not_waited_for(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    """By a map of zeros the kernel looks for the same page again and again."""
    session = lab.session(name)
    layout, image = session.bridge.layout, session.bridge.image
    last = max(run.end_paddr for run in image.stored)
    pages = [
        place.paddr
        for vaddr in range(layout.page_struct_of(16 << 20), layout.page_struct_of(last), 3 * PAGE_SIZE)
        if (place := layout.translate(image, vaddr & -PAGE_SIZE))
    ]
    assert len(pages) > 100 and all(holds(session, page) for page in pages)
    copy = blank_copy(session, pages, tmp_path / "map.raw")
    with open_session(copy, lab.store.root) as other:
        rows = ask(other, "files")
        assert len(rows) > 100
        assert [text for text in other.statistics.failures if WHY in text or "page fault" in text]
        assert not [text for text in other.statistics.failures if "budget" in text]
    copy.unlink()


@pytest.mark.parametrize("name", EACH)
def test_a_task_that_was_never_used_is_zeros_but_for_the_pointer_to_the_next(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    session = lab.session(name)
    bridge = session.bridge
    memory = TypedMemory(bridge)
    # with the registers behind it (since 6.16; kernel/fork.c): they are not zeros
    size = -(-memory.number(memory.symbol("arch_task_struct_size"), 4) // 64) * 64
    task = next(
        place.paddr
        for _pid, task in session.tasks.listed()[0]
        if (place := bridge.layout.translate(bridge.image, task)) and place.paddr % PAGE_SIZE < PAGE_SIZE // 2
    )
    page = task & -PAGE_SIZE
    copy = tmp_path / "unused.raw"
    subprocess.run(["cp", "--sparse=always", bridge.image.path, copy], check=True)
    with open(copy, "r+b") as stream:
        stream.seek(page)  # raw: the offset is the address
        stream.write(bytes(task - page + size))
        with open_session(copy, lab.store.root) as all_zeros:
            assert holds(all_zeros, page)
        stream.seek(task + (size // 2 & -8))
        stream.write(b"pointer!")
        stream.flush()
        with open_session(copy, lab.store.root) as unused:
            assert not holds(unused, page)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("what", list(POINTERS))
def test_a_process_whose_memory_was_not_read_is_not_shown_as_roots(
    lab: Lab, tmp_path: Path, name: str, what: str
) -> None:
    session = lab.session(name)
    memory = TypedMemory(session.bridge)
    _pid, task = session.tasks.listed()[0][-1]
    field = POINTERS[what]
    vaddr = task if field is None else memory.get(task, "task_struct", field)
    clean = set(ask(session, "credentials"))
    copy = without(session, vaddr, tmp_path / "blank.raw")
    with open_session(copy, lab.store.root) as other:
        place = session.bridge.layout.translate(session.bridge.image, vaddr)
        assert place is not None
        assert other.bridge.virtual_memory.is_blank(place.paddr)
        assert other.bridge.virtual_memory.why_unreadable(vaddr) == WHY
        rows = ask(other, "credentials")
    copy.unlink()
    new = [row for row in rows if row not in clean]
    assert new or what != "its credentials"
    assert all(any(isinstance(cell, Unavailable) for cell in row) for row in new)
    assert not new or any(WHY in cell.reason for row in new for cell in row if isinstance(cell, Unavailable))


@pytest.mark.parametrize("name", EACH)
def test_each_page_counts_that_tells_a_task_from_others(lab: Lab, name: str) -> None:
    """However little of a task lies in the page where it begins: state and usage are there."""
    session = lab.session(name)
    blank, layout = session.bridge.virtual_memory.blank, session.bridge.layout
    assert blank is not None
    tasks = [task.task_vaddr for task in session.tasks.listed().tasks]
    assert len(tasks) > 50
    for vaddr in tasks:
        inside = -vaddr % PAGE_SIZE
        for at in (vaddr, vaddr + inside) if inside <= 1024 else (vaddr,):
            place = layout.translate(session.bridge.image, at)
            assert place is not None
            assert blank.holds(place.paddr & -PAGE_SIZE)


def test_a_per_cpu_area_that_was_not_read_is_not_one_that_another_kernel_overwrote(
    lab: Lab, tmp_path: Path
) -> None:
    session = lab.session("6.1 two CPUs")
    memory = TypedMemory(session.bridge)
    _cpu, vaddr = next(memory.per_cpu("this_cpu_off"))
    copy = without(session, vaddr, tmp_path / "blank.raw")
    with open_session(copy, lab.store.root) as other:
        assert ask(other, "check") == []
    copy.unlink()
