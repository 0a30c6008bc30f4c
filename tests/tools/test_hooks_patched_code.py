"""hooks: functions whose first bytes the kernel itself has patched."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
from attacks import ask, edited
from generations import Lab
from image_editor import Editor

from hybridbridge_vol.check.integrity import Integrity
from hybridbridge_vol.check.one_function import FunctionComparison

SAMPLE = "6.1 two CPUs"


def test_a_function_that_the_kernel_has_patched_itself_needs_no_full_comparison(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    is_as_patched = FunctionComparison.is_as_patched

    def noted(comparison: FunctionComparison, start: int, end: int) -> bool:
        compared.append(end)
        return is_as_patched(comparison, start, end)

    def full(integrity: Integrity) -> NoReturn:
        raise AssertionError("the whole kernel is compared")

    session = lab.session(SAMPLE)
    monkeypatch.setattr(FunctionComparison, "is_as_patched", noted)
    with monkeypatch.context() as patched:
        patched.setattr(Integrity, "differences", full)
        rows = ask(session, "hooks", kind=["sysfs"])
    assert compared
    assert {row["VERDICT"] for row in rows} == {"trusted"}
    # changed further behind, where no patch site is
    bridge, behind = session.bridge, compared[0] - 32 & -8
    function = bridge.kernel.symbols.lookup(bridge.kernel.text_link_vaddr + behind)
    assert function is not None

    def edit(editor: Editor) -> None:
        editor.write(bridge.layout.text_vaddr + behind, 0x9090_9090_9090_9090)

    with edited(session, lab.store.root, tmp_path / "edited.raw", edit) as other:
        rows = ask(other, "hooks", kind=["sysfs"])
    changed = [row for row in rows if row["VERDICT"] != "trusted"]
    assert {row["SYMBOL"] for row in changed} == {function[0]}
    assert {row["VERDICT"] for row in changed} == {"its code is changed (text)"}
