"""hooks: tables of descriptors as the kernel makes them, and words that stand where one was."""

from __future__ import annotations

from pathlib import Path

from attacks import ask, edited
from generations import Lab
from image_editor import Editor

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.kernel_hooks.open_files import MAX_DESCRIPTORS, is_table_size

SAMPLE = "6.1 two CPUs"
_NO_SIZE = 2148847872
"""What a process of a smeared image had, that had ended: of its descriptors 16,541 seemed to be hooked."""


def test_a_table_of_descriptors_that_is_none_is_one_row(lab: Lab, tmp_path: Path) -> None:
    usual = ask(lab.session(SAMPLE), "hooks", kind=("descriptor",))

    def edit(editor: Editor) -> None:
        memory = TypedMemory(editor.session.bridge)
        head = memory.at(memory.symbol("init_task"), "task_struct", "tasks")
        first = next(iter(memory.list(head, "task_struct", "tasks")))
        table = memory.get(memory.get(first, "task_struct", "files"), "files_struct", "fdt")
        editor.write(table, _NO_SIZE)

    with edited(lab.session(SAMPLE), lab.store.root, tmp_path / "edited.raw", edit) as session:
        rows = ask(session, "hooks", kind=("descriptor",))
    (lost,) = (row["WHAT"].reason for row in rows if isinstance(row["WHAT"], Unavailable))
    assert lost == f"the descriptors of 1 init: a table of {_NO_SIZE} is none of the kernel's"
    assert all(row["VERDICT"] == "trusted" for row in rows if not isinstance(row["WHAT"], Unavailable))
    assert len(usual) // 2 < len(rows) <= len(usual) + 1


def test_the_kernels_tables_of_descriptors_have_few_sizes() -> None:
    made = [64, *(1 << power for power in range(7, 31)), 1_000_000]  # the last one by fs.nr_open
    assert all(map(is_table_size, made))
    assert not any(map(is_table_size, [0, 1 << 31, _NO_SIZE, 1_000_001, MAX_DESCRIPTORS + 64]))
