"""The log of copies, run: while it is on nothing is copied, each copy is noted, and it is not overrun."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from assembly import assembled
from small_machine import END, HOME, RETURN, SNAPSHOT, STACK, TRUSTED_MEMORY, TWIN, SmallMachine

from hybridbridge_vol.bridge.text.copy_log import HEADER, LOG_SIZE, LOG_VADDR, MOST_RECORDS, RECORD
from hybridbridge_vol.bridge.text.file_system_form import FileSystemForm
from hybridbridge_vol.bridge.text.policy import Trampoline, _rule
from hybridbridge_vol.bridge.text.trampolines import TwinTrampolines
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.paging import USER, WRITABLE

ENTRY, ADVANCE = 0x80, 0x40
HOMES_ANSWER = 0x1234
LOG_PADDR = 3 << 30
FIRST = LOG_VADDR + HEADER.size
SOURCE, SIZE, ITERATOR = SNAPSHOT + 0x5000, 4096, TRUSTED_MEMORY + 0x208000
COPY_TO_ITERATOR = Trampoline(ENTRY, "log", 0, target=ADVANCE)
COPY_TO_USER = Trampoline(ENTRY, "log", 1)


@pytest.fixture
def small() -> Iterator[SmallMachine]:
    """A machine with a log. Home's function at `ENTRY` returns `HOMES_ANSWER`; the one at `ADVANCE` leaves
    its arguments in R10 and R11."""
    machine = SmallMachine()
    machine.machine.place(LOG_PADDR, HostMapping.anonymous(LOG_SIZE))
    machine.engine.update_regions()
    machine.tables.map_page(LOG_VADDR, LOG_PADDR, WRITABLE | USER, 21)
    machine.machine.write(HOME + ENTRY, assembled("b834120000 mov eax, 0x1234") + RETURN)
    machine.machine.write(
        HOME + ADVANCE, assembled("4989fa mov r10, rdi\n4989f3 mov r11, rsi\n31c0 xor eax, eax") + RETURN
    )
    yield machine
    machine.close()


def switch(small: SmallMachine, following: int, end: int = FIRST + MOST_RECORDS * RECORD.size) -> None:
    small.machine.write(LOG_VADDR, HEADER.pack(following, end))


def call(small: SmallMachine, trampoline: Trampoline, *arguments: int) -> int:
    """What the twin's function returns."""
    trampolines = TwinTrampolines([trampoline], TWIN, HOME, TRUSTED_MEMORY, None, FileSystemForm())
    ((offset, code),) = trampolines.patches(0, 1 << 32)
    small.machine.write(TWIN + offset, code)
    small.machine.uc.ctl_remove_cache(TWIN + offset, TWIN + offset + len(code))
    assert small.machine.call(TWIN + offset, arguments, STACK, END, 5).kind == "returned"
    return small.machine.read_register("RAX")


def records(small: SmallMachine) -> list[tuple[int, int]]:
    following, _end = HEADER.unpack(small.machine.read(LOG_VADDR, HEADER.size))
    return list(RECORD.iter_unpack(small.machine.read(FIRST, following - FIRST)))


def test_while_the_log_is_off_copies_are_made_at_home(small: SmallMachine) -> None:
    switch(small, 0)
    assert call(small, COPY_TO_ITERATOR, SOURCE, SIZE, ITERATOR) == HOMES_ANSWER
    assert call(small, COPY_TO_USER, ITERATOR, SOURCE, SIZE) == HOMES_ANSWER
    assert call(small, Trampoline(ENTRY, "note"), SOURCE, SIZE) == 0
    assert not any(small.machine.read(FIRST, 64))


def test_a_copy_to_an_iterator_is_noted_and_the_iterator_advanced(small: SmallMachine) -> None:
    switch(small, FIRST)
    for number in range(3):
        assert call(small, COPY_TO_ITERATOR, SOURCE + number * SIZE, SIZE + number, ITERATOR) == SIZE + number
        assert small.machine.read_register("R10") == ITERATOR
        assert small.machine.read_register("R11") == SIZE + number
    assert records(small) == [(SOURCE + number * SIZE, SIZE + number) for number in range(3)]


def test_a_copy_to_user_memory_leaves_nothing_to_copy(small: SmallMachine) -> None:
    switch(small, FIRST)
    assert call(small, COPY_TO_USER, ITERATOR, SOURCE, SIZE) == 0
    assert call(small, Trampoline(ENTRY, "note"), ITERATOR, 1) == 0
    assert records(small) == [(SOURCE, SIZE), (ITERATOR, 1)]


@pytest.mark.parametrize("trampoline", [COPY_TO_ITERATOR, COPY_TO_USER, Trampoline(ENTRY, "note")])
def test_a_full_log_takes_nothing_more(small: SmallMachine, trampoline: Trampoline) -> None:
    switch(small, FIRST + RECORD.size, FIRST + RECORD.size)
    assert call(small, trampoline, SOURCE, SIZE, ITERATOR) == 0
    assert not any(small.machine.read(FIRST, 64))


def test_an_iterator_is_the_third_argument() -> None:
    rule = {"subsystem": "", "action": "log", "names": ["f"], "argument": 1, "target": "iov_iter_advance"}
    with pytest.raises(ValueError, match="third argument"):
        _rule(rule)
