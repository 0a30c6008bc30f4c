"""Time stands still: the clock that the snapshot's timekeeper reads is found and stopped."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_snapshot import DATA, FUNCTIONS, STATICS, TEXT_VADDR, SmallSnapshot

from hybridbridge_vol.bridge.clock import StoppedClock, find_clock
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual, VirtualMemory

CLOCK_AT = DATA + 0x200
"""Where in the kernel image the clocksource is."""
CYCLE_LAST = 0x1234_5678_9ABC
MASK_64, MASK_32 = (1 << 64) - 1, (1 << 32) - 1


def timekeeper(words_before: int = 1, clock: int = TEXT_VADDR + CLOCK_AT, mask: int = MASK_64) -> bytes:
    """A timekeeper: so many words, then a struct tk_read_base (clock, mask, cycle_last)."""
    return struct.pack(f"<{words_before}Q3Q", *range(words_before), clock, mask, CYCLE_LAST)


def snapshot_with(path: Path, core: bytes, read_function: int) -> SmallSnapshot:
    """A snapshot with a timekeeper, and a clocksource whose first word is a pointer to its read function."""
    return SmallSnapshot(
        path / "image", {STATICS["tk_core"]: core, CLOCK_AT: read_function.to_bytes(8, "little")}
    )


@pytest.mark.parametrize("mask", [MASK_64, MASK_32, (1 << 56) - 1])
@pytest.mark.parametrize("words_before", [0, 1, 5])
def test_the_clock_is_found_behind_the_counters_that_the_timekeeper_begins_with(
    tmp_path: Path, mask: int, words_before: int
) -> None:
    function = FUNCTIONS["second_function"]
    snapshot = snapshot_with(tmp_path, timekeeper(words_before, mask=mask), TEXT_VADDR + function)
    assert find_clock(snapshot.memory, snapshot.sides) == StoppedClock(function, CYCLE_LAST)


@pytest.mark.parametrize(
    ("core", "read_function"),
    [
        pytest.param(timekeeper(mask=0xFF), TEXT_VADDR, id="too narrow a mask"),
        pytest.param(timekeeper(mask=MASK_64 - 1), TEXT_VADDR, id="a mask with a hole"),
        pytest.param(timekeeper(clock=0x1000), TEXT_VADDR, id="a clock in user memory"),
        pytest.param(timekeeper(), TEXT_VADDR + 8, id="a read function that is the middle of one"),
        pytest.param(timekeeper(), TEXT_VADDR - 8, id="a read function before the text"),
        pytest.param(timekeeper(clock=(1 << 64) - 4096), TEXT_VADDR, id="a clock that is not in the image"),
        pytest.param(timekeeper(30), TEXT_VADDR, id="a clock too far behind"),
        pytest.param(bytes(256), TEXT_VADDR, id="zeros"),
    ],
)
def test_a_timekeeper_that_makes_no_sense_has_no_clock(
    tmp_path: Path, core: bytes, read_function: int
) -> None:
    snapshot = snapshot_with(tmp_path, core, read_function)
    assert find_clock(snapshot.memory, snapshot.sides) is None


@given(core=st.binary(min_size=256, max_size=256))
def test_whatever_the_timekeeper_holds_a_clock_reads_at_a_functions_entry(
    tmp_path_factory: pytest.TempPathFactory, core: bytes
) -> None:
    snapshot = snapshot_with(tmp_path_factory.mktemp("clock"), core, TEXT_VADDR)
    found = find_clock(snapshot.memory, snapshot.sides)
    assert found is None or found.read_offset in FUNCTIONS.values()
    snapshot.close()


def test_an_image_without_the_timekeeper_says_so(tmp_path: Path) -> None:
    snapshot = SmallSnapshot(tmp_path / "image")
    layout = snapshot.memory.layout._replace(text_paddr=len(snapshot.data))
    with pytest.raises(UnreadableVirtual) as caught:
        find_clock(VirtualMemory(snapshot.image, layout), snapshot.sides)
    assert caught.value.vaddr == snapshot.sides.snapshot("tk_core")


def test_the_read_function_returns_the_last_cycle_and_so_does_the_tsc() -> None:
    clock = StoppedClock(0x800, CYCLE_LAST)
    offset, code = clock.patch()
    assert offset == 0x800
    assert code == b"\x48\xb8" + CYCLE_LAST.to_bytes(8, "little") + b"\xc3"  # movabs rax, imm64; ret
    assert (clock.tsc().value, clock.tsc().step) == (CYCLE_LAST, 0)
