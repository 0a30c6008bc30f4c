"""Calls by the proxy task on a small bridge: answers, the mark and generations, reasons, user memory."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from small_bridge import SCRATCH, SmallBridge

from hybridbridge_vol.bridge.run import budget
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.bridge.run.user_memory import USER_SIZE, USER_VADDR
from hybridbridge_vol.bridge.snapshot_space import SnapshotSpace
from hybridbridge_vol.errors import BootError, CallRolledBack, NotMemoized

Make = Callable[..., SmallBridge]

FUNCTIONS = {
    "add": "488d0437 lea rax, [rdi + rsi]\nc3 ret",
    "store": "488937 mov qword ptr [rdi], rsi\nc3 ret",
    "store_and_fault": "488937 mov qword ptr [rdi], rsi\n488b02 mov rax, qword ptr [rdx]\nc3 ret",
    "load": "488b07 mov rax, qword ptr [rdi]\nc3 ret",
    "wait": "f4 hlt",
    "spin": "ebfe jmp 0",
    "bug": "0f0b ud2",
    "jump": "ffe7 jmp rdi",
    "__x64_sys_first": "488b4770 mov rax, qword ptr [rdi + 0x70]\nc3 ret",
    "__x64_sys_sixth": "488b4740 mov rax, qword ptr [rdi + 0x40]\nc3 ret",
}
UNMAPPED = 0x1234_5000
MODES = pytest.mark.parametrize("mode", [Mode.AUTO, Mode.SLOW])


# --- answers ----------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("side", ["home", "twin"])
def test_a_call_gives_what_the_function_returns(make: Make, mode: Mode, side: str) -> None:
    small = make(FUNCTIONS)
    function = small.home("add") if side == "home" else small.twin("add")
    assert Caller(small.bridge, mode).call(function, 2, 3) == 5


def test_an_answer_is_a_signed_number(make: Make) -> None:
    small = make(FUNCTIONS)
    assert Caller(small.bridge).call(small.home("add"), 0, -22) == -22


def test_a_system_call_finds_its_arguments_in_pt_regs(make: Make) -> None:
    caller = Caller(make(FUNCTIONS).bridge)
    assert caller.syscall("first", 11, 12, 13, 14, 15, 16) == 11
    assert caller.syscall("sixth", 11, 12, 13, 14, 15, 16, side="twin") == 16
    assert caller.syscall("sixth", 11) == 0


def test_a_system_call_that_the_kernel_does_not_have_is_named(make: Make) -> None:
    with pytest.raises(BootError, match="this kernel has no system call missing"):
        Caller(make(FUNCTIONS).bridge).syscall("missing")


# --- the mark and generations -----------------------------------------------------------------------------


@MODES
def test_a_failed_call_takes_memory_back_to_the_mark(make: Make, mode: Mode) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge, mode)
    caller.call(small.home("store"), SCRATCH, 1)
    caller.mark()
    caller.call(small.home("store"), SCRATCH + 8, 2)
    assert caller.generation == 0
    with pytest.raises(CallRolledBack):
        caller.call(small.home("store_and_fault"), SCRATCH, 3, UNMAPPED)
    assert caller.generation == 1
    assert [caller.call(small.home("load"), SCRATCH + offset) for offset in (0, 8)] == [1, 0]


def test_a_page_that_was_mapped_since_the_mark_is_not_asked_for_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge)
    caller.mark()
    asked: list[int] = []
    complete = SnapshotSpace.complete

    def counted(space: SnapshotSpace, vaddr: int) -> bool:
        asked.append(vaddr)
        return complete(space, vaddr)

    monkeypatch.setattr(SnapshotSpace, "complete", counted)
    assert caller.call(small.twin("add"), 2, 3) == 5
    assert asked
    first = len(asked)
    caller.roll_back()
    assert caller.call(small.twin("add"), 4, 5) == 9
    assert asked[first:] == []


def test_what_was_done_before_a_second_mark_stays(make: Make) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge)
    caller.mark()
    caller.call(small.home("store"), SCRATCH, 1)
    caller.mark()
    caller.roll_back()
    assert caller.call(small.home("load"), SCRATCH) == 1
    assert caller.generation == 1


def test_without_a_mark_there_is_nothing_to_go_back_to(make: Make) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge)
    caller.call(small.home("store"), SCRATCH, 1)
    caller.roll_back()
    assert caller.generation == 0
    assert caller.call(small.home("load"), SCRATCH) == 1


def test_bytes_of_the_snapshot_that_a_call_wrote_are_the_images_again(make: Make) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge)
    vaddr = small.snapshot_vaddr(0x40_0000)
    original = caller.call(small.home("load"), vaddr)
    assert original == 0x40_0000  # each page of the small image holds its own address
    caller.mark()
    caller.call(small.home("store"), vaddr, 1)
    with pytest.raises(CallRolledBack):
        caller.call(small.home("store_and_fault"), vaddr, 3, UNMAPPED)
    assert caller.call(small.home("load"), vaddr) == original


def test_a_rolled_back_call_is_counted(make: Make) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge)
    caller.mark()
    with pytest.raises(CallRolledBack, match="^open /proc: rolled back: "):
        caller.call(small.home("wait"), label="open /proc")
    assert vars(caller.hybrid.statistics.of("open")) | {"seconds": 0} == vars(
        type(caller.hybrid.statistics.of("open"))(calls=1, rolled_back=1)
    )


# --- reasons ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        ("store_and_fault", (SCRATCH, 1, UNMAPPED), r"page fault in home store_and_fault\+0x3 at 0x12345000"),
        ("wait", (), r"the call would wait for something that never comes \(home wait\+0x1\)"),
        ("bug", (), r"invalid instruction in home bug\+0x0"),
        ("jump", (UNMAPPED,), r"code outside of the trusted kernel and its modules at 0x12345000"),
    ],
)
@MODES
def test_the_reason_says_what_happened_and_where(
    make: Make, mode: Mode, function: str, arguments: tuple[int, ...], reason: str
) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge, mode)
    caller.mark()
    with pytest.raises(CallRolledBack) as rolled_back:
        caller.call(small.home(function), *arguments)
    assert re.fullmatch(reason, rolled_back.value.reason)


def test_a_call_that_does_not_end_is_ended_and_the_next_one_sooner(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(budget, "LEAST_CALL_SECONDS", 0.05)
    small = make(FUNCTIONS)
    caller = Caller(small.bridge)
    caller.mark()
    for _ in range(2):
        with pytest.raises(CallRolledBack, match=r"budget of 0 s exceeded in home spin\+0x0"):
            caller.call(small.home("spin"))
    assert caller.hybrid.statistics.of("call").seconds < 5
    assert caller.call(small.home("add"), 2, 3) == 5


def test_fast_alone_names_the_code_that_has_no_memo_and_rolls_the_call_back(make: Make) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge, Mode.FAST)
    caller.mark()
    with pytest.raises(NotMemoized, match=r"no memo for add\+0x0; use --bridge auto") as refused:
        caller.call(small.twin("add"), 2, 3)
    assert refused.value.function == "add+0x0"
    assert caller.generation == 1


# --- user memory ------------------------------------------------------------------------------------------


def test_user_memory_is_read_and_written_by_both(make: Make) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge)
    vaddr = caller.put(b"\x07" + bytes(7), 64)
    assert vaddr == USER_VADDR + 64
    assert caller.call(small.home("load"), vaddr) == 7
    caller.call(small.home("store"), vaddr, 8)
    assert caller.get(64, 2) == b"\x08\0"


def test_user_memory_is_not_rolled_back(make: Make) -> None:
    small = make(FUNCTIONS)
    caller = Caller(small.bridge)
    caller.mark()
    with pytest.raises(CallRolledBack):
        caller.call(small.home("store_and_fault"), caller.put(bytes(8)), 5, UNMAPPED)
    assert caller.get(0, 1) == b"\x05"


@pytest.mark.parametrize("offset", [-1, USER_SIZE - 3, USER_SIZE])
def test_what_does_not_fit_into_user_memory_is_refused(make: Make, offset: int) -> None:
    with pytest.raises(ValueError, match="4 bytes do not fit into user memory"):
        Caller(make(FUNCTIONS).bridge).put(bytes(4), offset)


def test_under_taint_an_answer_has_the_labels_of_the_snapshots_bytes(make: Make) -> None:
    small = make({"copy": "488b06 mov rax, qword ptr [rsi]\n488907 mov qword ptr [rdi], rax\nc3 ret"})
    caller = Caller(small.bridge, Mode.SLOW)
    caller.call(small.home("copy"), caller.put(bytes(16)), small.snapshot_vaddr(0x40_0008))
    origins = [caller.hybrid.slow.engine.origins(label) for label in caller.labels(0, 16)]
    assert origins == [[(0x40_0008 + number, 1)] for number in range(8)] + [[]] * 8
