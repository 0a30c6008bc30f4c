"""The kernel as linked, kept beside the stored one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hybridbridge_vol.trust.linked_kernel import FORMAT, linked_kernel

Lab = Any


def test_a_damaged_or_absent_copy_is_made_again(lab: Lab) -> None:
    kernel = lab.session("6.1 two CPUs").bridge.kernel
    path = kernel.folder / f"linked-{FORMAT}"
    good = linked_kernel(kernel)
    stored = path.read_bytes()
    for damaged in (stored[: len(stored) // 2], b"", stored[:1000] + bytes(8) + stored[1008:]):
        path.write_bytes(damaged)
        again = linked_kernel(kernel)
        assert again == good
        assert path.read_bytes() == stored


def test_what_no_segment_covers_lies_behind_the_constants_and_the_code_of_each(lab: Lab) -> None:
    kernel = lab.session("6.1 two CPUs").bridge.kernel
    linked = linked_kernel(kernel)
    gaps = list(zip(linked.gaps[::2], linked.gaps[1::2], strict=True))
    ends = [kernel.symbols.address(name) - kernel.text_link_vaddr for name in ("__end_rodata", "_sdata")]
    assert any(start < ends[0] <= end == ends[1] for start, end in gaps), gaps
    assert all(start <= end <= len(linked.flat) for start, end in gaps)


@pytest.mark.parametrize("shift", [0, 2 << 20, -(2 << 20) & (1 << 64) - 1])
def test_relocating_moves_every_listed_word_and_no_other(lab: Lab, shift: int) -> None:
    linked = linked_kernel(lab.session("6.1 two CPUs").bridge.kernel)
    moved = linked.relocated(shift)
    back = dataclasses.replace(linked, flat=moved).relocated(-shift)
    assert back == linked.flat
    assert (moved == linked.flat) is (shift == 0)
    site = linked.abs64[len(linked.abs64) // 2]
    before, after = (int.from_bytes(flat[site : site + 8], "little") for flat in (linked.flat, moved))
    assert (after - before) % (1 << 64) == shift
