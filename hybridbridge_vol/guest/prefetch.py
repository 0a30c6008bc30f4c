"""Asking many small questions about /proc at once, before a tool asks them one by one.

The answers are kept for a while: the guest stands still, so they do not age. A question that cannot be
answered this way (an error, a long file, code without a memo) is left out. It is asked again, and its reason
found, when the tool asks for it by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice

from hybridbridge_vol.bridge.run.program import DATA_OFFSET, DATA_SIZE, ProgramMemory, Step
from hybridbridge_vol.guest.abi import STAT_SIZE
from hybridbridge_vol.guest.descriptors import Descriptors
from hybridbridge_vol.guest.file_attributes import AT_STATX_DONT_SYNC
from hybridbridge_vol.guest.mounting import Mounts
from hybridbridge_vol.guest.proxy_calls import AT_FDCWD, ProxyCalls
from hybridbridge_vol.guest.values import Question

AT_ONCE = 128
"""Questions in one program: enough that entering the emulator does not count, few enough to be asked again
one by one."""
_ROOM = DATA_SIZE // AT_ONCE
_PATH_ROOM = 512
"""Bytes for a path; the rest of a question's room is for its answer."""
_ANSWER_ROOM = _ROOM - _PATH_ROOM
_MAX_KEPT = 32 << 20
"""Bytes of answers that are kept."""
_AT_SYMLINK_NOFOLLOW = 0x100


class Prefetch:
    """Questions that were asked together, and their answers until they are asked for."""

    def __init__(self, proxy: ProxyCalls, descriptors: Descriptors, mounts: Mounts) -> None:
        self._proxy = proxy
        self._descriptors = descriptors
        self._mounts = mounts
        self._answers: dict[tuple[str, str], bytes] = {}
        self._kept = 0

    def find(self, kind: str, path: str) -> bytes | None:
        """The answer if it is there: a file's content, a directory's entries (see getdents64(2)), a link's
        target, a `struct stat`."""
        return self._answers.get((kind, path))

    def forget(self) -> None:
        """Let all answers go."""
        self._answers.clear()
        self._kept = 0

    def ask(self, questions: Iterable[Question]) -> None:
        """Ask, `AT_ONCE` at a time. Nothing is asked under taint, where each answer has labels of its own,
        and while a file is open, which rolling back a program would close."""
        if self._proxy.under_taint or not self._descriptors.none_open:
            return
        wanted = list(questions)
        for question in wanted:
            self._mounts.reach(question.path)
            self._proxy.show_no_own_sockets(question.path)
        # now, so that its code is proven: a program that meets unproven code is rolled back
        self._descriptors.tidy_now()
        if self._kept > _MAX_KEPT:
            self.forget()
        waiting = iter(wanted)
        while part := list(islice(waiting, AT_ONCE)):
            new = [question for question in part if _fits(question.path) and question not in self._answers]
            self._descriptors.count_closed(self._ask(self._proxy.program_memory, new))

    def _ask(self, memory: ProgramMemory, questions: list[Question]) -> int:
        """Ask these in one program; how many files it opened and closed: none if it was rolled back."""
        steps: list[Step] = []
        ends: list[int] = []
        for number, question in enumerate(questions):
            at = DATA_OFFSET + number * _ROOM
            path = memory.put(at, os.fsencode(question.path) + b"\0")
            buffer = memory.put(at + _PATH_ROOM, b"")
            steps += _steps(question.kind, path, buffer, len(steps))
            ends.append(len(steps))
        answers = memory.run(steps) if steps else []
        if answers is None:
            return 0
        start = 0
        for number, (question, end) in enumerate(zip(questions, ends, strict=True)):
            size = _size(question.kind, answers[start:end])
            if size is not None:
                self._answers[question] = memory.get(DATA_OFFSET + number * _ROOM + _PATH_ROOM, size)
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
            Step("openat", (AT_FDCWD, path, os.O_RDONLY, 0)),
            Step("read", (0, buffer, _ANSWER_ROOM), number),
            # nothing, or there is more: files come in pieces
            Step("read", (0, buffer, _ANSWER_ROOM), number),
            Step("close", (0,), number),
        ]
    if kind == "listdir":
        return [
            Step("openat", (AT_FDCWD, path, os.O_RDONLY | os.O_DIRECTORY, 0)),
            Step("getdents64", (0, buffer, _ANSWER_ROOM), number),
            Step("getdents64", (0, buffer, _ANSWER_ROOM), number),
            Step("close", (0,), number),
        ]
    if kind == "readlink":
        return [Step("readlinkat", (AT_FDCWD, path, buffer, _ANSWER_ROOM))]
    follow = kind == "stat"
    flags = AT_STATX_DONT_SYNC if follow else _AT_SYMLINK_NOFOLLOW
    return [Step("newfstatat", (AT_FDCWD, path, buffer, flags), None, "twin" if follow else "home")]


def _size(kind: str, answers: list[int]) -> int | None:
    """Bytes of the answer; None if there is none, or it goes on."""
    if kind in ("read", "listdir"):
        fd, count, rest, _closed = answers
        return count if fd >= 0 and count >= 0 and rest == 0 else None
    if kind == "readlink":
        return answers[0] if 0 <= answers[0] < _ANSWER_ROOM else None
    return STAT_SIZE if answers[0] == 0 else None
