"""Asking for many small things of /proc at once: what a tool says that it will ask for next.

The answers are kept for a while: the guest is frozen, so they do not age. What cannot be had this way (an
error, a long file, code without a memo) is left out, and is found again, with its reason, when it is asked
for by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.run.program import DATA_AT, DATA_SIZE, ProgramMemory, Step
from hybridbridge_vol.toolkit.guest_kernel import Question
from hybridbridge_vol.units import U64

AT_ONCE = 128
"""Questions in one program: enough that entering the emulator does not count, few enough to be asked again
singly."""
_ROOM = DATA_SIZE // AT_ONCE
_PATH_ROOM = 512
"""Bytes for a path; the rest of a question's room is for its answer."""
_ANSWER_ROOM = _ROOM - _PATH_ROOM
_MAX_KEPT = 32 << 20
"""Bytes of answers that are kept."""
_STAT_SIZE = 144
_AT_FDCWD = -100 & U64
_AT_SYMLINK_NOFOLLOW = 0x100


class Prefetch:
    """The answers that wait to be asked for."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._memory: ProgramMemory | None = None
        self._answers: dict[tuple[str, str], bytes] = {}
        self._kept = 0

    def find(self, kind: str, path: str) -> bytes | None:
        """The answer if it is there: a file's content, a directory's entries (see getdents64(2)), a link's
        target, a `struct stat`."""
        return self._answers.get((kind, path))

    def ask(self, questions: Iterable[Question]) -> Iterator[int]:
        """Ask, `AT_ONCE` at a time; after each time how many files were opened and closed: none if all was
        rolled back."""
        if self._kept > _MAX_KEPT:
            self._answers.clear()
            self._kept = 0
        if self._memory is None:
            self._memory = ProgramMemory(self._caller)
        waiting = iter(questions)
        while part := list(islice(waiting, AT_ONCE)):
            yield self._ask(
                self._memory, [item for item in part if _fits(item.path) and item not in self._answers]
            )

    def _ask(self, memory: ProgramMemory, questions: list[Question]) -> int:
        steps: list[Step] = []
        ends: list[int] = []
        for number, question in enumerate(questions):
            at = DATA_AT + number * _ROOM
            path, buffer = (
                memory.put(at, os.fsencode(question.path) + b"\0"),
                memory.put(at + _PATH_ROOM, b""),
            )
            steps += _steps(question.kind, path, buffer, len(steps))
            ends.append(len(steps))
        answers = memory.run(steps) if steps else []
        if answers is None:
            return 0
        start = 0
        for number, (question, end) in enumerate(zip(questions, ends, strict=True)):
            size = _size(question.kind, answers[start:end])
            if size is not None:
                self._answers[question] = memory.get(DATA_AT + number * _ROOM + _PATH_ROOM, size)
                self._kept += size
            start = end
        return sum(question.kind in ("read", "listdir") for question in questions)


def _fits(path: str) -> bool:
    encoded = os.fsencode(path)
    return len(encoded) < _PATH_ROOM and b"\0" not in encoded


def _steps(kind: str, path: int, buffer: int, number: int) -> list[Step]:
    """The calls that answer a question, the first of which is the program's `number`."""
    if kind == "read":
        return [
            Step("openat", (_AT_FDCWD, path, os.O_RDONLY, 0)),
            Step("read", (0, buffer, _ANSWER_ROOM), number),
            Step(
                "read", (0, buffer, _ANSWER_ROOM), number
            ),  # nothing, or there is more: files come in pieces
            Step("close", (0,), number),
        ]
    if kind == "listdir":
        return [
            Step("openat", (_AT_FDCWD, path, os.O_RDONLY | os.O_DIRECTORY, 0)),
            Step("getdents64", (0, buffer, _ANSWER_ROOM), number),
            Step("getdents64", (0, buffer, _ANSWER_ROOM), number),
            Step("close", (0,), number),
        ]
    if kind == "readlink":
        return [Step("readlinkat", (_AT_FDCWD, path, buffer, _ANSWER_ROOM))]
    follow = kind == "stat"
    flags = 0 if follow else _AT_SYMLINK_NOFOLLOW
    return [Step("newfstatat", (_AT_FDCWD, path, buffer, flags), None, "twin" if follow else "home")]


def _size(kind: str, answers: list[int]) -> int | None:
    """How long the answer is; None if it is none, or goes on."""
    if kind in ("read", "listdir"):
        fd, count, rest, _closed = answers
        return count if fd >= 0 and count >= 0 and rest == 0 else None
    if kind == "readlink":
        return answers[0] if 0 <= answers[0] < _ANSWER_ROOM else None
    return _STAT_SIZE if answers[0] == 0 else None
