"""Whether an image is of one moment, by what its tasks and lists say of one another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attacks import edited
from generations import Lab
from image_editor import Editor

from hybridbridge_vol.bridge.objects.moments import of_several_moments
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools import load
from hybridbridge_vol.workflow.describe_image import facts_of

SAMPLE = "6.1 two CPUs"


@pytest.fixture
def said(lab: Lab, tmp_path: Path) -> Callable[[Callable[[TypedMemory, Editor], None]], str]:
    """Edit a copy of a sample, and what it then says."""

    def ask(edit: Callable[[TypedMemory, Editor], None]) -> str:
        session = lab.session(SAMPLE)
        memory = TypedMemory(session.bridge)
        copy = tmp_path / "edited.raw"
        with edited(session, lab.store.root, copy, lambda editor: edit(memory, editor)) as other:
            said = of_several_moments(TypedMemory(other.bridge))
            is_quick = said in facts_of(other).notes
            assert is_quick == (said == of_several_moments(TypedMemory(other.bridge), quickly=True) != "")
            return said

    return ask


def test_an_image_of_one_moment_says_nothing(lab: Lab, generation: str) -> None:
    assert of_several_moments(TypedMemory(lab.session(generation).bridge)) == ""


def test_a_running_task_is_marked_as_running(said: Callable[..., str]) -> None:
    def edit(memory: TypedMemory, editor: Editor) -> None:
        _cpu, queue = next(memory.per_cpu("runqueues"))
        place = memory.at(memory.get(queue, "rq", "curr"), "task_struct", "on_cpu")
        aligned = place & -8
        editor.write(aligned, editor.read(aligned) & ~(0xFFFFFFFF << 8 * (place - aligned)))

    assert "is not marked as running" in said(edit)


@pytest.mark.parametrize("field", ["tasks", "sibling", "cg_list"])
def test_a_node_that_one_neighbour_knows_is_of_two_moments(said: Callable[..., str], field: str) -> None:
    def edit(memory: TypedMemory, editor: Editor) -> None:
        _pid, task = editor.session.tasks.listed()[0][-1]
        node = memory.at(task, "task_struct", field)
        editor.write(memory.word(node) + 8, memory.word(node + 8))

    assert "lists contradict each other" in said(edit)


@pytest.mark.parametrize("field", ["tasks", "sibling", "cg_list"])
def test_a_task_that_was_taken_off_a_list_says_nothing(said: Callable[..., str], field: str) -> None:
    """As a rootkit does it, for which there must be no excuse."""

    def edit(memory: TypedMemory, editor: Editor) -> None:
        _pid, task = editor.session.tasks.listed()[0][-1]
        editor.unlink(memory.at(task, "task_struct", field))

    assert said(edit) == ""


def test_a_node_of_inodes_that_contradicts_is_found(said: Callable[..., str]) -> None:
    def edit(memory: TypedMemory, editor: Editor) -> None:
        block = next(memory.list(memory.ring("super_blocks"), "super_block", "s_list"))
        head = memory.at(block, "super_block", "s_inodes")
        editor.write(memory.word(memory.word(head)) + 8, head)

    assert "lists contradict each other" in said(edit)


def test_what_is_hidden_in_an_image_of_two_moments_is_shown_with_the_doubt(lab: Lab, tmp_path: Path) -> None:
    session = lab.session(SAMPLE)
    memory = TypedMemory(session.bridge)

    def edit(editor: Editor) -> None:
        (_first, torn), (pid, hidden) = session.tasks.listed()[0][-3:-1]
        assert pid
        editor.unlink(memory.at(hidden, "task_struct", "tasks"))
        node = memory.at(torn, "task_struct", "cg_list")
        editor.write(memory.word(node) + 8, memory.word(node + 8))

    with edited(session, lab.store.root, tmp_path / "edited.raw", edit) as other:
        tool = load("hidden")
        rows = [row.cells for row in tool.rows(other, tool.defaults())]
    (row,) = (row for row in rows if row[0] == "process")
    assert isinstance(row[4], Unavailable)
    assert row[4].reason.startswith("task list; the image is of more than one moment: ")
