"""What is asked together is answered as what is asked singly."""

from __future__ import annotations

import errno

import pytest
from generations import Lab

from hybridbridge_vol.bridge.attach import attach
from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.memo_for_kernel import memo_key
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.guest.values import Question, QuestionKind
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.find_kernel import find_kernel
from hybridbridge_vol.tools.process.listing import files_of, numbers

KINDS: tuple[QuestionKind, ...] = ("read", "listdir", "readlink", "lstat", "stat")
FILES = ("stat", "status", "cmdline", "maps", "comm", "fd", "task", "ns/net", "environ", "absent")
LINKS = ("exe", "cwd", "root")
MANY = 24
"""Processes asked of: more than one program's worth of questions."""


def answer(session: Session, question: Question) -> object:
    """What a session says, errors included."""
    try:
        if question.kind in ("lstat", "stat"):
            # inode numbers of /proc are drawn when a file is first looked up
            return session.files.stat(question.path, follow=question.kind == "stat")._replace(ino=0)
        ask = {
            "read": session.files.read,
            "listdir": session.files.listdir,
            "readlink": session.files.readlink,
        }[question.kind]
        return ask(question.path)
    except OSError as error:
        return error.errno
    except CallRolledBack as error:
        return error.reason


@pytest.fixture
def questions(lab: Lab, generation: str) -> list[Question]:
    pids = numbers(lab.session(generation).files.listdir("/proc"))[-MANY:]
    links = [question for kind in KINDS[2:] for question in files_of(pids, *LINKS, kind=kind)]
    return [*links, *(question for kind in KINDS for question in files_of(pids, "", *FILES, kind=kind))]


def test_questions_asked_together_and_one_by_one_have_the_same_answers(
    lab: Lab, generation: str, questions: list[Question]
) -> None:
    dump = lab.sample(generation).dump
    with open_session(dump, lab.store.root) as session:
        before = session.calls
        singly = [answer(session, question) for question in questions]
        alone = session.calls - before
    assert errno.ENOENT in singly
    with open_session(dump, lab.store.root) as session:
        session.files.expect(questions)
        before = session.calls
        assert [answer(session, question) for question in questions] == singly
        assert session.calls - before < alone * 3 / 4  # errors and long files are asked for again


def test_an_answer_that_was_prefetched_needs_no_call(lab: Lab, generation: str) -> None:
    dump = lab.sample(generation).dump
    asked = [
        Question("read", "/proc/1/stat"),
        Question("listdir", "/proc/1/task"),
        Question("lstat", "/proc/1"),
    ]
    with open_session(dump, lab.store.root) as session:
        singly = [answer(session, question) for question in asked]
    with open_session(dump, lab.store.root) as session:
        before = session.calls
        session.files.expect(asked)
        after = session.calls
        assert after - before >= len(asked)
        assert [answer(session, question) for question in asked] == singly
        assert session.calls == after


def test_code_without_a_memo_is_proven_when_the_question_is_asked_alone(lab: Lab, generation: str) -> None:
    """A program is never run under taint: one that meets a trap is rolled back, and its questions are asked
    one by one."""
    image, kernels = open_image(lab.sample(generation).dump), lab.store.kernels()
    hit = find_kernel(image, kernels)
    assert hit is not None
    kernel = kernels[hit[0]]
    asked = list(files_of([1, 2], "stat", "status", "cmdline"))  # stat says whether an empty cmdline is whole
    with Session(attach(image, kernel, hit[1], memo=Memo(memo_key(kernel)))) as session:
        files = session.files  # mounts the snapshot's /proc
        before = session.statistics.total.traps
        files.expect(asked)
        assert session.statistics.total.traps == before
        answers = [answer(session, question) for question in asked]
        assert session.statistics.total.traps > before
        session.files.expect(asked)
        before = session.calls
        assert [answer(session, question) for question in asked] == answers
        # a page that only SLOW-BRIDGE may read ends a program, too
        assert session.calls == before or session.statistics.total.withheld


@pytest.mark.parametrize(
    "path", ["/proc/" + "1/" * 400, "/proc/1/stat\0us", "/etc/passwd", "", "/proc/1/\udcff"]
)
def test_an_impossible_path_among_the_questions_does_no_harm(lab: Lab, path: str) -> None:
    session = lab.session("6.12")
    singly = answer(session, Question("read", path))
    session.files.expect([Question(kind, path) for kind in KINDS])
    assert answer(session, Question("read", path)) == singly


def test_files_stay_open_while_others_are_asked_together(lab: Lab) -> None:
    session = lab.session("6.12")
    with session.files.open("/proc/1/status") as file:
        first = file.read(16)
        session.files.expect(files_of([1, 2], "status", "stat"))
        assert first + file.read() == session.files.read("/proc/1/status")
