"""A child under limits: every way in which it can end is a value."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Callable

import pytest

from hybridbridge_vol.lab.batch.worker.supervised_child import Abandoned, Ended, Events, keep, private_bytes


def kept(
    work: Callable[[], Events], seconds: float = 30, memory: int = 1 << 30
) -> tuple[Ended, list[tuple[str, object]]]:
    taken: list[tuple[str, object]] = []
    read_end, write_end = os.pipe()
    try:
        return keep(work, taken.append, lambda _step: seconds, memory, time.monotonic() + 60, read_end), taken
    finally:
        os.close(read_end)
        os.close(write_end)


def no_child_is_left() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_events_are_passed_on_in_order_and_what_it_took_is_told() -> None:
    ended, taken = kept(lambda: iter([("step", "one"), ("tool", [1, "é"]), ("step", "two")]))
    assert taken == [("step", "one"), ("tool", [1, "é"]), ("step", "two")]
    assert ended.how == "finished" and ended.peak_rss > 1 << 20


def test_a_child_that_stands_still_is_cut_off() -> None:
    def stops() -> Events:
        yield "step", "ps"
        os.kill(os.getpid(), signal.SIGSTOP)

    ended, _ = kept(stops, seconds=0.3)
    assert (ended.how, ended.step, ended.reason) == ("timeout", "ps", "cut off after 0.3 s")
    assert no_child_is_left()


def test_a_child_that_eats_memory_is_ended() -> None:
    def eats() -> Events:
        yield "step", "maps"
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1 << 20)))

    ended, _ = kept(eats, memory=256 << 20)
    assert (ended.how, ended.step) == ("memory", "maps")
    assert "256 MiB" in ended.reason


def test_a_crash_names_its_signal() -> None:
    def crashes() -> Events:
        yield "step", "netstat"
        faulthandler.disable()  # pytest's would write a page about it
        os.kill(os.getpid(), signal.SIGSEGV)

    ended, _ = kept(crashes)
    assert (ended.how, ended.reason) == ("crashed", "the process that did it was ended by SIGSEGV")


def test_a_bug_is_an_event() -> None:
    def bug() -> Events:
        yield "step", "arp"
        raise KeyError("x")

    ended, taken = kept(bug)
    assert ended.how == "finished" and taken[-1] == ("error", "'x' (KeyError, a bug)")


def test_a_child_ends_when_nobody_waits_for_it() -> None:
    read_end, write_end = os.pipe()
    pids: list[int] = []

    def works() -> Events:
        os.close(write_end)  # it was inherited
        yield "pid", os.getpid()
        time.sleep(20)

    def take(event: tuple[str, object]) -> None:
        assert isinstance(event[1], int)
        pids.append(event[1])
        os.close(write_end)

    with pytest.raises(Abandoned):
        keep(works, take, lambda _step: 60, 1 << 30, time.monotonic() + 60, read_end)
    os.close(read_end)
    assert private_bytes(pids[0]) == 0 and no_child_is_left()
