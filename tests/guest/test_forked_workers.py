"""Work shared out among forked workers: every part is answered once, in order, whatever becomes of a
worker."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from batches import children_of
from open_files import open_files
from sessions import session_with

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest import forked_workers
from hybridbridge_vol.guest.forked_workers import Duties
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.guest.workers import SnapshotWorkers
from hybridbridge_vol.tools.cross_view import processes as cross_view
from hybridbridge_vol.tools.process import descriptors, listing

Lab = Any
ORIGINAL = os.getpid()
SMALL_PARTS = (
    (listing, "WORTH_SHARING", 1), (listing, "AT_ONCE", 16), (descriptors, "AT_ONCE", 32),
    (descriptors, "_TO_SHARE", 1), (cross_view, "_FAMILIES_TO_SHARE", 1),
    (cross_view, "_LOOK_UPS_TO_SHARE", 1),
)  # fmt: skip
"""So that a guest of 100 processes is shared out."""
NO_DUTIES = Duties(lambda: None, lambda: None, lambda _nothing: None)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No process, no pipe, no file of answers."""

    def opened() -> set[str]:
        gc.collect()  # what training has opened is let go
        targets = open_files()
        left = {target for target in targets if target.startswith("pipe:") or target.endswith("(deleted)")}
        # another process of the test run may trust a kernel anew while a session has its modules open
        return {target for target in left if not target.endswith("/modules.zip (deleted)")}

    before, children = opened(), set(children_of(os.getpid()))
    yield
    assert set(children_of(os.getpid())) <= children
    assert opened() - before == set()


def shared_out(parts: list[int], answer: Any, helpers: int = 3) -> tuple[list[Any], list[object]]:
    ended: list[object] = []
    answers = list(
        forked_workers.in_order(parts, answer, helpers, Duties(lambda: None, os.getpid, ended.append))
    )
    return answers, ended


def test_the_answers_are_in_order_and_come_from_several_processes() -> None:
    answers, ended = shared_out(list(range(200)), lambda part: (part, os.getpid(), time.sleep(0.002)))
    assert [number for number, _pid, _none in answers] == list(range(200))
    pids = {pid for _number, pid, _none in answers}
    assert len(pids) > 1 and pids - {ORIGINAL} <= set(ended)
    assert len(ended) == 3 and ORIGINAL not in ended


def test_an_answer_is_given_as_soon_as_it_is_there_and_those_before_it() -> None:
    """The worker has answered part 1 and begun part 2 before this process has answered part 0."""
    begun, released = os.pipe(), os.pipe()
    here: list[int] = []

    def answer(part: int) -> int:
        if os.getpid() != ORIGINAL:
            if part > 1:
                os.write(begun[1], b"2")
                os.read(released[0], 1)
        else:
            here.append(part)
            if not part:
                os.read(begun[0], 1)
        return part

    answers = forked_workers.in_order(range(6), answer, 1, NO_DUTIES)
    assert [next(answers), next(answers)] == [0, 1]
    assert here == [0]
    os.write(released[1], bytes(6))
    assert list(answers) == [2, 3, 4, 5]
    for descriptor in (*begun, *released):
        os.close(descriptor)


def test_an_answer_may_be_larger_than_a_pipe() -> None:
    answers, _ended = shared_out(list(range(12)), lambda part: bytes([part]) * (1 << 20))
    assert answers == [bytes([part]) * (1 << 20) for part in range(12)]


def test_the_parts_of_a_killed_worker_are_answered_all_the_same() -> None:
    def answer(part: int) -> int:
        if os.getpid() != ORIGINAL and part % 5 == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.002)
        return part

    answers, ended = shared_out(list(range(60)), answer)
    assert answers == list(range(60))
    assert len(ended) < 3


@pytest.mark.parametrize("call", ["os.fork", "os.pipe", "tempfile.TemporaryFile"])
@pytest.mark.parametrize("works", [0, 1])
def test_where_no_worker_can_be_forked_the_work_is_done_all_the_same(
    monkeypatch: pytest.MonkeyPatch, call: str, works: int
) -> None:
    module, _, name = call.partition(".")
    real = getattr(sys.modules[module], name)
    allowed = iter(range(works + (name == "pipe")))  # one pipe is that of the tickets

    def refuse() -> Any:
        if next(allowed, None) is None:
            raise OSError(errno.EAGAIN, "no more")
        return real()

    monkeypatch.setattr(sys.modules[module], name, refuse)
    answers, ended = shared_out(list(range(30)), lambda part: part)
    assert answers == list(range(30))
    assert len(ended) == works


def test_an_error_of_a_part_is_raised_when_its_answer_is_due() -> None:
    def answer(part: int) -> int:
        if part == 7:
            raise ValueError(part)
        return part

    answers = forked_workers.in_order(range(20), answer, 2, NO_DUTIES)
    assert [next(answers) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="7"):
        next(answers)


def test_workers_end_when_no_more_answers_are_wanted() -> None:
    answers = forked_workers.in_order(range(1000), lambda part: time.sleep(0.01) or part, 2, NO_DUTIES)
    assert next(answers) == 0
    assert isinstance(answers, Generator)
    answers.close()


ORPHANS = """
import os, sys, time
from hybridbridge_vol.guest import forked_workers

def answer(part):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)

list(forked_workers.in_order(range(8), answer, 3, forked_workers.Duties(*[lambda *_: None] * 3)))
"""


def test_no_worker_outlives_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pids = {int(parent.stdout.readline()) for _ in range(4)}
    assert len(pids) == 4 and parent.pid in pids
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == b""  # at its end: nobody has the pipe open any more
    parent.stdout.close()
    end = time.monotonic() + 30
    while any(map(is_running, pids)):  # the pipe is closed a moment before
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return False
    return state not in b"ZX"


def test_a_process_with_another_thread_is_not_forked() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not forked_workers.can_fork()
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ps", {"threads": True}),
        ("ps", {"tree": True}),
        ("ps", {"columns": "pid,wchan,args"}),
        ("lsof", {"tasks": True}),
        ("pidstat", {}),
        ("namespaces", {}),
        ("netstat", {"all": True, "program": True}),
        ("hidden", {}),
    ],
)
def test_a_tool_gives_the_same_rows_on_one_processor_and_on_three(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    # the sessions of other tests have threads, which workers do not need
    monkeypatch.setattr(forked_workers, "can_fork", lambda: True)
    for module, limit, value in SMALL_PARTS:
        monkeypatch.setattr(module, limit, value)
    forked: list[int] = []
    in_order = forked_workers.in_order
    monkeypatch.setattr(
        forked_workers, "in_order", lambda *arguments: forked.append(arguments[2]) or in_order(*arguments)
    )
    tool = tools.load(name)
    options = tool.defaults() | options
    answers, calls = [], []
    for processors in (1, 3):
        dump = lab.sample("6.1 two CPUs").dump
        with open_session(dump, lab.store.root, processors=processors) as session:
            answers.append([(row.cells, row.depth) for row in tool.rows(session, options)])
            calls.append(session.calls)
    assert answers[0] == answers[1]
    assert forked and all(forked)
    # those of the workers are counted; the first run asks again what it had not proven yet
    assert calls[0] / 2 < calls[1] < calls[0] * 1.2


def test_what_a_worker_has_proven_is_known_to_this_process_too(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked_workers, "can_fork", lambda: True)
    asked = tmp_path / "asked"
    with session_with(lab, "6.12", Mode.AUTO) as session:
        end = time.monotonic() + 120
        session.workers = SnapshotWorkers(session.caller.hybrid, processors=2)

        def answer(path: str) -> bytes:
            if path == "the first":  # before there is a worker
                return b""
            if os.getpid() == ORIGINAL:
                while not asked.exists():  # the other part is a worker's
                    assert time.monotonic() < end
                    time.sleep(0.01)
                return b""
            asked.touch()
            return session.files.read(path)

        _first, _, read = session.workers.map(answer, ["the first", "", "/proc/interrupts"])
        memo = session.bridge.memo
    with session_with(lab, "6.12", Mode.FAST, memo) as again:
        assert again.files.read("/proc/interrupts") == read


def test_the_first_part_is_answered_before_a_worker_is_forked(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the emulator translates for it, no worker translates again."""
    monkeypatch.setattr(forked_workers, "can_fork", lambda: True)
    with session_with(lab, "6.12", Mode.AUTO) as session:
        session.workers = SnapshotWorkers(session.caller.hybrid, processors=2)
        here: list[int] = []

        def answer(part: int) -> tuple[int, list[int]]:
            here.append(part)
            time.sleep(0.01 * (os.getpid() == ORIGINAL))
            return os.getpid(), list(here)

        answers = list(session.workers.map(answer, range(8)))
        assert answers[0] == (ORIGINAL, [0])
        assert {pid for pid, _seen in answers} > {ORIGINAL}
        assert all(seen[0] == 0 for _pid, seen in answers)
        assert {pid for pid, _seen in session.workers.map(answer, range(8), least=9)} == {ORIGINAL}
