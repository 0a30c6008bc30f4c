"""A child with limits: every way in which it can end is a value."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Iterator

import pytest
from batches import children_of

from hybridbridge_vol.lab.batch.dataset import ToolRun
from hybridbridge_vol.lab.batch.events import Event, Failed, Step, ToolDone
from hybridbridge_vol.lab.batch.worker.supervised_child import (
    Abandoned,
    Ended,
    Limits,
    Work,
    private_bytes,
    supervise,
)

NO_LIMIT = 1 << 40
"""Bytes. A child has all that this process holds, which may be much when many tests ran before."""


def supervised(work: Work, seconds: float = 30, memory: int = NO_LIMIT) -> tuple[Ended, list[Event]]:
    taken: list[Event] = []
    read_end, write_end = os.pipe()
    try:
        limits = Limits(lambda _step: seconds, memory, time.monotonic() + 60)
        return supervise(work, taken.append, limits, read_end), taken
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Not even one that has ended."""
    before = set(children_of(os.getpid()))
    yield
    assert set(children_of(os.getpid())) <= before


def test_events_are_passed_on_in_order_and_typed() -> None:
    reported: list[Event] = [
        Step("one"),
        ToolDone(ToolRun("ps", "partial", error="é \udcff \x00"), "/table"),
        Step("two"),
    ]
    ended, taken = supervised(lambda: iter(reported))
    assert taken == reported
    assert ended.how == "finished" and ended.peak_rss > 1 << 20


def test_a_step_that_hangs_times_out() -> None:
    def stops() -> Iterator[Event]:
        yield Step("ps")
        os.kill(os.getpid(), signal.SIGSTOP)

    ended, _ = supervised(stops, seconds=0.3)
    assert (ended.how, ended.step, ended.reason) == ("timeout", "ps", "timed out after 0.3 s")


def test_a_child_that_takes_too_much_memory_is_ended() -> None:
    def grows() -> Iterator[Event]:
        yield Step("maps")
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1 << 20)))

    limit = private_bytes(os.getpid()) + (256 << 20)
    ended, _ = supervised(grows, memory=limit)
    assert (ended.how, ended.step) == ("memory", "maps")
    assert f"{limit >> 20} MiB" in ended.reason


def test_a_crash_names_its_signal() -> None:
    def crashes() -> Iterator[Event]:
        yield Step("netstat")
        faulthandler.disable()  # pytest's would write a page about it
        os.kill(os.getpid(), signal.SIGSEGV)

    ended, _ = supervised(crashes)
    assert (ended.how, ended.reason) == ("crashed", "the process that did it was ended by SIGSEGV")


def test_a_bug_is_an_event() -> None:
    def bug() -> Iterator[Event]:
        yield Step("arp")
        raise KeyError("x")

    ended, taken = supervised(bug)
    assert ended.how == "finished" and taken[-1] == Failed("'x' (KeyError, a bug)")


def test_a_child_ends_when_nobody_waits_for_it() -> None:
    read_end, write_end = os.pipe()
    pids: list[int] = []

    def works() -> Iterator[Event]:
        os.close(write_end)  # it was inherited
        yield Step(str(os.getpid()))
        time.sleep(20)

    def take(event: Event) -> None:
        assert isinstance(event, Step)
        pids.append(int(event.name))
        os.close(write_end)

    with pytest.raises(Abandoned):
        supervise(works, take, Limits(lambda _step: 60, NO_LIMIT, time.monotonic() + 60), read_end)
    os.close(read_end)
    assert private_bytes(pids[0]) == 0
