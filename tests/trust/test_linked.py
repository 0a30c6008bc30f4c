"""The kernel as linked, kept beside the stored one."""

from __future__ import annotations

from typing import Any

import pytest

from hybridbridge_vol.trust.linked import FORMAT, linked_kernel

Lab = Any


def test_a_damaged_or_absent_copy_is_made_again(lab: Lab) -> None:
    kernel = lab.session("6.1 two CPUs").bridge.kernel
    path = kernel.folder / f"linked-{FORMAT}"
    good = linked_kernel(kernel)
    stored = path.read_bytes()
    for damaged in (stored[: len(stored) // 2], b"", stored[:1000] + bytes(8) + stored[1008:]):
        path.write_bytes(damaged)
        again = linked_kernel(kernel)
        assert (again.flat, again.abs32, again.abs64, again.inverse32) == (good.flat, good.abs32, good.abs64, good.inverse32)
        assert path.read_bytes() == stored


@pytest.mark.parametrize("shift", [0, 2 << 20, -(2 << 20) & (1 << 64) - 1])
def test_relocating_moves_every_listed_word_and_no_other(lab: Lab, shift: int) -> None:
    linked = linked_kernel(lab.session("6.1 two CPUs").bridge.kernel)
    moved = linked.relocated(shift)
    back = linked.__class__(moved, linked.abs32, linked.inverse32, linked.abs64).relocated(-shift)
    assert back == linked.flat
    assert (moved == linked.flat) is (shift == 0)
    site = linked.abs64[len(linked.abs64) // 2]
    before, after = (int.from_bytes(flat[site : site + 8], "little") for flat in (linked.flat, moved))
    assert (after - before) % (1 << 64) == shift
