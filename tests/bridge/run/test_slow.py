"""SLOW-BRIDGE on a small bridge: what a run proves, what ends it, what is redirected to the trusted side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_bridge import SCRATCH, SLOT, SmallBridge
from small_snapshot import DATA, HOME_VADDR, TEXT_PADDR, TEXT_VADDR, word

from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.bridge.run.slow import SlowBridge
from hybridbridge_vol.bridge.text.policy import Trampoline
from hybridbridge_vol.errors import CallRolledBack

Make = Callable[..., SmallBridge]

VARIABLE = DATA + 0x100
"""Offset from `_text` of a static variable."""
CACHE = SCRATCH + 0x1000
"""A slab cache of the trusted kernel's."""
LOAD = "488b05f93f0000 mov rax, qword ptr [rip + 0x3ff9]\nc3 ret"
"""Of the first function: gives the variable."""
LOAD_SIZE = 7
FOLLOW = f"{LOAD.removesuffix('c3 ret')}488b00 mov rax, qword ptr [rax]\nc3 ret"
"""Gives what the variable points to."""
FIELD = SLOT + 3


def slow_caller(small: SmallBridge, mode: Mode = Mode.SLOW) -> Caller:
    caller = Caller(small.bridge, mode)
    caller.mark()
    return caller


# --- what is proven ---------------------------------------------------------------------------------------


def test_the_twins_static_references_reach_the_snapshot_and_homes_the_trusted_kernel(make: Make) -> None:
    small = make({"load": LOAD}, statics={VARIABLE: word(1)}, home_statics={VARIABLE: word(2)})
    caller = slow_caller(small)
    assert caller.call(small.twin("load")) == 1
    assert caller.call(small.home("load")) == 2


def test_instructions_of_the_twin_are_proven_once(make: Make) -> None:
    small = make({"load": LOAD})
    caller = slow_caller(small)
    for _ in range(2):
        caller.call(small.twin("load"))
        caller.call(small.home("load"))
    assert list(small.bridge.memo.text.ranges()) == [(SLOT, SLOT + LOAD_SIZE + 1)]
    assert caller.hybrid.statistics.total.memoized == 2
    # two of each call, and one that ran again when its page of the snapshot had been brought in
    assert caller.hybrid.statistics.total.instructions == 9


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.FAST])
def test_what_one_session_proved_the_next_runs_on_fast(make: Make, mode: Mode) -> None:
    small = make({"load": LOAD}, statics={VARIABLE: word(1)})
    slow_caller(small).call(small.twin("load"))
    proven = small.bridge.memo
    other = make({"load": LOAD}, statics={VARIABLE: word(3)})
    other.bridge.memo.text.add(proven.text.ranges())
    caller = slow_caller(other, mode)
    assert caller.call(other.twin("load")) == 3
    assert caller.hybrid.statistics.total.traps == 0


def test_fast_falls_back_in_the_middle_of_a_call_and_goes_on_alone_the_next_time(make: Make) -> None:
    functions = {
        "outer": "ff151a3f0000 call qword ptr [rip + 0x3f1a]\n4883c001 add rax, 1\nc3 ret",
        "inner": "488d4702 lea rax, [rdi + 2]\nc3 ret",
    }
    pointer = SLOT + 6 + 0x3F1A
    small = make(functions, home_statics={pointer: word(TEXT_VADDR + 2 * SLOT)})
    caller = slow_caller(small, Mode.AUTO)
    for _ in range(2):
        assert caller.call(small.home("outer"), 40) == 43
    assert caller.hybrid.statistics.total.traps == 1
    assert caller.hybrid.statistics.trapped_in == ["twin inner+0x0"]
    assert list(small.bridge.memo.text.ranges()) == [(2 * SLOT, 2 * SLOT + 5)]


def test_what_another_process_proved_stands_in_the_pages_that_are_in_use(make: Make) -> None:
    """One that did not show it could lack the end of an instruction that begins in the page before."""
    functions = {"load": LOAD, "other": "c3 ret"}
    worker = make(functions)
    slow_caller(worker).call(worker.twin("load"))
    small = make(functions, statics={VARIABLE: word(1)})
    caller = slow_caller(small, Mode.AUTO)
    caller.call(small.twin("other"))
    caller.hybrid.take_in(worker.bridge.memo)
    assert caller.call(small.twin("load")) == 1
    assert caller.hybrid.statistics.trapped_in == ["twin other+0x0"]
    assert small.bridge.memo.changed


def test_a_reference_that_another_process_redirected_is_redirected_where_its_code_runs(make: Make) -> None:
    small = make({"load": LOAD}, statics={VARIABLE: word(1)}, home_statics={VARIABLE: word(2)})
    caller = slow_caller(small, Mode.AUTO)
    assert caller.call(small.twin("load")) == 1
    learned = Memo(small.bridge.memo.key)
    learned.text.add([(SLOT, SLOT + LOAD_SIZE + 1)], [FIELD])
    caller.hybrid.take_in(learned)
    assert caller.call(small.twin("load")) == 2


@pytest.mark.parametrize("mode", [Mode.SLOW, Mode.AUTO])
def test_a_call_that_fails_proves_nothing(make: Make, mode: Mode) -> None:
    small = make({"follow": FOLLOW}, statics={VARIABLE: word(0x1234)})
    caller = slow_caller(small, mode)
    for failed in (1, 2):
        with pytest.raises(CallRolledBack, match=r"page fault in twin follow\+0x7 at 0x1234"):
            caller.call(small.twin("follow"))
        assert caller.hybrid.statistics.total.traps == (failed if mode is Mode.AUTO else 0)
    assert len(small.bridge.memo) == 0


def test_a_run_that_an_exception_of_pythons_ended_proves_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = {"first": "e9fb000000 jmp 0x100", "second": "89f8 mov eax, edi\nc3 ret"}
    small = make(functions)
    caller = slow_caller(small)
    read = SlowBridge.code

    def fail_at_second(slow: SlowBridge, twin: bool, offset: int, size: int) -> bytes:
        if offset == 2 * SLOT:
            raise OSError("the image was taken away")
        return read(slow, twin, offset, size)

    with monkeypatch.context() as patched:
        patched.setattr(SlowBridge, "code", fail_at_second)
        with pytest.raises(OSError, match="the image was taken away"):
            caller.call(small.twin("first"), 5)
    assert len(small.bridge.memo) == 0
    assert caller.call(small.twin("first"), 5) == 5
    assert list(small.bridge.memo.text.ranges()) == [(SLOT, SLOT + 5), (2 * SLOT, 2 * SLOT + 3)]


# --- what ends a run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.SLOW, Mode.AUTO])
def test_a_forged_pointer_ends_the_call_with_its_place_in_the_image(make: Make, mode: Mode) -> None:
    small = make({"follow": FOLLOW}, statics={VARIABLE: word(SCRATCH)})
    caller = slow_caller(small, mode)
    offset = TEXT_PADDR + VARIABLE
    with pytest.raises(CallRolledBack) as rolled_back:
        caller.call(small.twin("follow"))
    assert rolled_back.value.reason == (
        f"forged pointer followed in twin follow+0x7, from 8 bytes at image offset {offset:#x}"
    )
    assert len(small.bridge.memo) == 0
    assert caller.hybrid.statistics.unattributed == {}


def test_a_pointer_into_the_snapshot_is_followed(make: Make) -> None:
    small = make({"follow": FOLLOW}, statics={VARIABLE: word(0xFFFF_8880_0040_0000)})
    caller = slow_caller(small)
    assert caller.call(small.twin("follow")) == 0x40_0000
    assert caller.hybrid.statistics.unattributed == {}


def test_an_access_to_the_snapshot_that_nothing_explains_is_counted_by_its_instruction(make: Make) -> None:
    load = """
        48b8000040008088ffff movabs rax, 0xffff888000400000
        488b00 mov rax, qword ptr [rax]
        c3 ret
    """
    small = make({"load": load})
    caller = slow_caller(small)
    for _ in range(2):
        assert caller.call(small.home("load")) == 0x40_0000
    assert caller.hybrid.statistics.unattributed == {"home load+0xa": 2}


def test_an_argument_that_points_into_the_snapshot_is_a_pointer_of_it(make: Make) -> None:
    small = make({"load": "488b07 mov rax, qword ptr [rdi]\nc3 ret"})
    caller = slow_caller(small)
    assert caller.call(small.home("load"), small.snapshot_vaddr(0x40_0000)) == 0x40_0000
    assert caller.hybrid.statistics.unattributed == {}


# --- slab caches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.SLOW, Mode.AUTO])
def test_a_static_reference_to_a_slab_cache_reaches_the_trusted_kernels_from_then_on(
    make: Make, mode: Mode
) -> None:
    small = make(
        {"load": LOAD},
        statics={VARIABLE: word(0xFFFF_8880_0040_0000)},
        home_statics={VARIABLE: word(CACHE)},
        caches=[CACHE],
    )
    caller = slow_caller(small, mode)
    caller.call(small.twin("load"))
    assert small.bridge.memo.text.trusted == {FIELD}
    assert caller.hybrid.statistics.redirected == 1
    assert caller.call(small.twin("load")) == CACHE - (1 << 64)


def test_a_variable_that_holds_another_object_of_the_trusted_kernels_is_not_redirected(make: Make) -> None:
    small = make({"load": LOAD}, statics={VARIABLE: word(1)}, home_statics={VARIABLE: word(CACHE)})
    caller = slow_caller(small)
    assert [caller.call(small.twin("load")) for _ in range(2)] == [1, 1]
    assert small.bridge.memo.text.trusted == set()


ALLOCATE = "488b3df93f0000 mov rdi, qword ptr [rip + 0x3ff9]\ne9f4000000 jmp 0xf9"
"""Loads the variable, and goes on in the next function with it as the first argument."""
ALLOCATOR = "4889f8 mov rax, rdi\nc3 ret"


def test_a_cache_of_the_snapshots_is_replaced_where_the_trusted_allocator_takes_it(make: Make) -> None:
    """The load is conditional here, so it is not recognized as one of a cache by itself."""
    allocate = """
        31c0 xor eax, eax
        480f443df33f0000 cmove rdi, qword ptr [rip + 0x3ff3]
        e9f1000000 jmp 0xf6
    """
    variable = SLOT + 10 + 0x3FF3
    small = make(
        {"allocate": allocate, "allocator": ALLOCATOR},
        statics={variable: word(0xFFFF_8880_0040_0000)},
        home_statics={variable: word(CACHE)},
        caches=[CACHE],
        trampolines=[Trampoline(2 * SLOT, "home", trusted=1)],
    )
    caller = slow_caller(small)
    assert caller.call(small.twin("allocate")) == CACHE - (1 << 64)
    assert small.bridge.memo.text.trusted == {SLOT + 6}


def test_an_object_of_the_snapshots_that_is_not_a_cache_is_not_replaced(make: Make) -> None:
    small = make(
        {"allocate": ALLOCATE, "allocator": ALLOCATOR},
        statics={VARIABLE: word(0xFFFF_8880_0040_0000)},
        home_statics={VARIABLE: word(SCRATCH)},
        caches=[CACHE],
        trampolines=[Trampoline(2 * SLOT, "home", trusted=1)],
    )
    with pytest.raises(CallRolledBack, match=r"forged pointer followed in twin allocator\+0x0"):
        slow_caller(small).call(small.twin("allocate"))
    assert small.bridge.memo.text.trusted == set()


TABLE, SEED = DATA + 0x100, DATA + 0x200
SNAPSHOTS = word(0xFFFF_8880_0040_0000)


def choosing(mask: int) -> str:
    """Loads the entry of a table of caches that some bits of a seed choose, and allocates from it."""
    seed, table = SEED - (SLOT + 7), TEXT_VADDR + TABLE - (1 << 64)
    return f"""
        488b05{seed.to_bytes(4, "little").hex()} mov rax, qword ptr [rip + {seed:#x}]
        83e0{mask:02x} and eax, {mask:#x}
        488bb8{table.to_bytes(4, "little", signed=True).hex()} mov rdi, qword ptr [rax - {-table:#x}]
        e9ea000000 jmp 0xef
    """


@pytest.mark.parametrize(
    ("home_table", "is_table"),
    [
        ([0, CACHE, CACHE + 0x100, CACHE + 0x200], True),
        ([CACHE, SCRATCH, CACHE + 0x100, CACHE + 0x200], False),
    ],
)
def test_a_table_of_caches_is_the_trusted_kernels_whichever_of_them_the_snapshots_seed_chose(
    make: Make, home_table: list[int], is_table: bool
) -> None:
    small = make(
        {"allocate": choosing(0x18), "allocator": ALLOCATOR},
        statics={TABLE: SNAPSHOTS * 4, SEED: word(0x5550)},
        home_statics={TABLE: b"".join(map(word, home_table)), SEED: word(0)},
        caches=[CACHE + 0x100 * number for number in range(4)],
        trampolines=[Trampoline(2 * SLOT, "home", trusted=1)],
    )
    caller = slow_caller(small)
    if not is_table:  # the seed of an image must not teach the memo another reference
        with pytest.raises(CallRolledBack, match="forged pointer followed"):
            caller.call(small.twin("allocate"))
        assert small.bridge.memo.text.trusted == set()
        return
    assert caller.call(small.twin("allocate")) == home_table[2] - (1 << 64)
    assert small.bridge.memo.text.trusted == {SLOT + 7 + 3 + 3}


# --- life -------------------------------------------------------------------------------------------------


def test_a_closed_slow_bridge_hears_of_no_more_segments(make: Make) -> None:
    small = make({"load": LOAD})
    modules = small.bridge.space.modules
    caller = slow_caller(small)
    assert len(modules._listeners) == 1
    caller.hybrid.close()
    assert modules._listeners == []


def test_home_and_twin_are_told_apart_in_what_the_engine_reads(make: Make) -> None:
    small = make({"load": LOAD}, trampolines=[Trampoline(SLOT, "home")])
    slow = slow_caller(small).hybrid.slow
    assert slow.code(False, SLOT, 3) == b"\x48\x8b\x05"
    assert slow.code(True, SLOT, 1) == b"\xe9"
    distance = int.from_bytes(slow.code(True, SLOT + 1, 4), "little", signed=True)
    assert TEXT_VADDR + SLOT + 5 + distance == HOME_VADDR + SLOT
