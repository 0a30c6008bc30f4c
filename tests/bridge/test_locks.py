"""Locks of the snapshot: taking one leaves the word of the lock as the kernel leaves it, so that every
assertion about it holds; one that somebody held at the capture is taken too."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.text.kernel_tables import text_functions
from hybridbridge_vol.kernel_file.symbols import plain_name

Lab = Any


class Lock(NamedTuple):
    """A lock of the kernel's own, and where its state is: so many bytes at an offset."""

    symbol: str
    offset: int
    size: int


SPIN, RW = Lock("mmlist_lock", 0, 4), Lock("tasklist_lock", 0, 4)
MUTEX, SEMAPHORE, COUNTED = Lock("text_mutex", 0, 8), Lock("uts_sem", 0, 8), Lock("console_sem", 4, 4)
PAIRS = [
    (SPIN, "_raw_spin_lock_irqsave", "_raw_spin_unlock_irqrestore", 1),
    (SPIN, "_raw_spin_lock", "_raw_spin_unlock_irqrestore", 1),
    (SPIN, "_raw_spin_lock_bh", "_raw_spin_unlock_bh", 1),
    (SPIN, "_raw_spin_trylock", "_raw_spin_unlock_irqrestore", 0x101),
    (SPIN, "_raw_spin_trylock_bh", "_raw_spin_unlock_bh", 1),
    (RW, "_raw_read_lock", "_raw_read_unlock_irqrestore", 0xFF),
    (RW, "_raw_read_lock_bh", "_raw_read_unlock_bh", 0x200),
    (RW, "_raw_read_trylock", "_raw_read_unlock_irqrestore", 0xFF),
    (RW, "_raw_write_lock", "_raw_write_unlock_irqrestore", 0x200),
    (RW, "_raw_write_lock_bh", "_raw_write_unlock_bh", 0xFF),
    (RW, "_raw_write_trylock", "_raw_write_unlock_irqrestore", 0x200),
    (MUTEX, "mutex_lock", "mutex_unlock", 0xFFFF_8880_0000_1000),
    (MUTEX, "mutex_lock_interruptible", "mutex_unlock", 0xFFFF_8880_0000_1001),
    (MUTEX, "mutex_trylock", "mutex_unlock", 0xFFFF_8880_0000_1000),
    (SEMAPHORE, "down_read", "up_read", 1),
    (SEMAPHORE, "down_read_killable", "up_read", 3),
    (SEMAPHORE, "down_read_trylock", "up_read", 1),
    (SEMAPHORE, "down_write", "up_write", 0x100),
    (SEMAPHORE, "down_write_killable", "up_write", 0x102),
    (SEMAPHORE, "down_write_trylock", "up_write", 0x200),
    (COUNTED, "down", "up", 0),
    (COUNTED, "down_trylock", "up", 0),
]
"""A lock, the functions that take and release it, and its state when somebody else holds it so that it cannot
be taken (include/asm-generic/qspinlock_types.h, qrwlock.h; kernel/locking/mutex.c, rwsem.c)."""
FOR_WRITING = {
    "_raw_write_lock": 0xFF,
    "_raw_write_lock_bh": 0xFF,
    "_raw_write_trylock": 0xFF,
} | dict.fromkeys(("down_write", "down_write_killable", "down_write_trylock"), 1)
"""The bits that say that a lock is held for writing."""
TAKES_OR_RELEASES = re.compile(
    r"_raw_(spin|read|write)_(lock|trylock|unlock).*|(ww_|rt_)?mutex_(lock|trylock|unlock).*"
    r"|rt_(spin|read|write)_(lock|trylock|unlock).*|(down|up)_(read|write).*|down(_(interruptible|killable|timeout"
    r"|trylock))?|up|downgrade_write"
)
"""The functions that code outside of kernel/locking/ takes and releases locks by."""


@pytest.fixture
def caller(lab: Lab, generation: str) -> Iterator[Caller]:
    """Calls on a guest, of which nothing stays."""
    caller: Caller = lab.session(generation).caller
    yield caller
    caller.roll_back()


def state(caller: Caller, vaddr: int, lock: Lock) -> int:
    """The state of the lock at an address."""
    return int.from_bytes(caller.machine.read(vaddr + lock.offset, lock.size), "little")


@pytest.mark.parametrize(("lock", "take", "release", "held"), PAIRS, ids=[pair[1] for pair in PAIRS])
def test_a_lock_is_left_as_the_kernel_leaves_it(
    caller: Caller, lock: Lock, take: str, release: str, held: int
) -> None:
    states = []
    for side in (caller.bridge.home, caller.bridge.snapshot):
        vaddr = side(lock.symbol)
        before = state(caller, vaddr, lock)
        answer = caller.call(side(take), vaddr) & 0xFFFF_FFFF
        taken = state(caller, vaddr, lock)
        caller.call(side(release), vaddr, 0)
        assert state(caller, vaddr, lock) == before != taken
        states.append((before, taken, answer if "try" in take else None))
    assert states[0] == states[1]


@pytest.mark.parametrize(("lock", "take", "release", "held"), PAIRS, ids=[pair[1] for pair in PAIRS])
def test_a_lock_that_was_held_at_the_capture_is_taken(
    caller: Caller, lock: Lock, take: str, release: str, held: int
) -> None:
    side = caller.bridge.snapshot
    vaddr = side(lock.symbol)
    free = state(caller, vaddr, lock)
    caller.machine.write(vaddr + lock.offset, held.to_bytes(lock.size, "little"))
    answer = caller.call(side(take), vaddr) & 0xFFFF_FFFF
    if "try" in take:
        assert answer == (0 if lock is COUNTED else 1)
    assert state(caller, vaddr, lock) != free or lock is COUNTED
    writing = FOR_WRITING.get(take, 0)
    assert state(caller, vaddr, lock) & writing == writing
    caller.call(side(release), vaddr, 0)


def test_no_function_that_takes_or_releases_a_lock_is_skipped(lab: Lab, generation: str) -> None:
    bridge = lab.session(generation).bridge
    skipped = {item.offset for item in bridge.prepared.trampolines if item.action not in ("home", "lock")}
    functions = [
        (offset, symbol)
        for offset, _size, symbol in text_functions(bridge.kernel)
        if TAKES_OR_RELEASES.fullmatch(plain_name(symbol))
    ]
    assert len(functions) > 35
    assert [symbol for offset, symbol in functions if offset in skipped] == []


def test_no_warning_of_the_kernel_is_met_while_proc_is_read(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    before = Counter(session.bridge.faults.warned)  # by what other tests have asked
    for path in (
        "locks",
        "slabinfo",
        "zoneinfo",
        "vmallocinfo",
        "1/smaps",
        "1/mountinfo",
        "net/unix",
        "keys",
    ):
        session.files.read(f"/proc/{path}")
    assert Counter(session.bridge.faults.warned) - before == Counter()
