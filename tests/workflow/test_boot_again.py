"""A boot that is asked for by a process that works on somebody else's image."""

from __future__ import annotations

from typing import Any

import pytest

from hybridbridge_vol.workflow.boot_again import boot_again

Lab = Any


@pytest.mark.parametrize(
    ("kernel", "start_vaddr", "end_vaddr", "levels"),
    [
        ("../..", 0, 1, 4),
        ("no such kernel", 0, 1, 4),
        ("", 5, 1, 4),
        ("", 0, 1 << 70, 4),
        ("", 0, 1, 3),
    ],
)
def test_a_boot_that_makes_no_sense_is_not_made(
    lab: Lab, kernel: str, start_vaddr: int, end_vaddr: int, levels: int
) -> None:
    assert not boot_again(lab.store, kernel, start_vaddr, end_vaddr, levels)
