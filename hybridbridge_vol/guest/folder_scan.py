"""Asking about many entries of one folder at once, in programs of several calls (`bridge.run.program`).

Each entry is opened by its name from the folder's descriptor, by the twin's code, as `RootFiles.open` does by
a path. What cannot be answered so (an error, code without a memo) is left out, and is to be asked singly.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from hybridbridge_vol.bridge.run.copy_log import CopyLog
from hybridbridge_vol.bridge.run.program import DATA_OFFSET, Step
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.abi import HOW_SIZE, how_in_root
from hybridbridge_vol.guest.descriptors import Descriptors, OpenFile
from hybridbridge_vol.guest.file_attributes import (
    OF_DESCRIPTOR,
    STATX_ALL,
    STATX_SIZE,
    FileAttributes,
    parse_statx,
)
from hybridbridge_vol.guest.named_pages import LARGEST_NAMED_READ
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.machine.memory import page_up

AT_ONCE = 256
"""Entries in one program."""
_NAME_MAX = 255
"""include/uapi/linux/limits.h."""
_ROOM = 1024
"""Bytes for an entry: its name, and behind it the answer."""
_ANSWER_AT = 512
_HOW_AT, _EMPTY_AT, _ENTRIES_AT = DATA_OFFSET, DATA_OFFSET + 64, DATA_OFFSET + 128
_HOW_IN_USER_MEMORY = 8192
_O_PATH, _O_NOFOLLOW, _O_NONBLOCK = 0o10000000, 0o400000, 0o4000

FolderOpener = Callable[[], OpenFile]
"""Opens the folder: again, where a program that was rolled back has closed it."""


class _Question(NamedTuple):
    """What is asked of each entry: how it is opened, and a call whose first argument is the descriptor."""

    flags: int
    call: str
    arguments: Callable[[int, int, int], tuple[int, ...]]
    """Of the virtual addresses of an empty string and of room for the answer, and the entry's size: the other
    arguments."""
    side: str


class _Entry(NamedTuple):
    """A name among those that were asked about, by its number; its size in bytes, if that is needed."""

    number: int
    name: bytes
    size: int


_STATX = _Question(
    _O_PATH | _O_NOFOLLOW,
    "statx",
    lambda empty, room, _size: (empty, OF_DESCRIPTOR, STATX_ALL, room),
    "twin",
)
_PREAD = _Question(
    _O_NONBLOCK | _O_NOFOLLOW, "pread64", lambda _empty, room, size: (room, page_up(size), 0), "home"
)


class FolderScan:
    """Programs about folders."""

    def __init__(self, proxy: ProxyCalls, descriptors: Descriptors) -> None:
        self._proxy = proxy
        self._descriptors = descriptors
        self._log = CopyLog(proxy.caller)

    def attributes(self, opener: FolderOpener, names: Iterable[str]) -> dict[str, FileAttributes]:
        """statx(2) of entries themselves."""
        found: dict[str, FileAttributes] = {}
        for part in _parts(names):
            for number, answer in self._ask(opener, part, _STATX, {}):
                if answer == 0:
                    at = _ENTRIES_AT + number * _ROOM + _ANSWER_AT
                    found[part[number]] = parse_statx(self._proxy.program_memory.get(at, STATX_SIZE))
        return found

    def whole(self, opener: FolderOpener, sizes: Mapping[str, int]) -> set[str]:
        """Those of the regular files with these sizes of which memory holds every byte; of the others some do
        too if they are large."""
        found: set[str] = set()
        for part in _parts(name for name, size in sizes.items() if 0 < size < LARGEST_NAMED_READ):
            with self._log.switched_on():
                answers = list(self._ask(opener, part, _PREAD, sizes))
            # what was logged is not looked at: the count is the kernel's
            found |= {part[number] for number, count in answers if count == sizes[part[number]]}
        return found

    def _ask(
        self, opener: FolderOpener, names: Sequence[str], question: _Question, sizes: Mapping[str, int]
    ) -> Iterator[tuple[int, int]]:
        """The number of each name that could be opened, and the answer of the question about it. Nothing is
        asked under taint, where each answer has labels of its own, and while a file is open, which rolling
        back a program would close."""
        encoded = [_Entry(number, os.fsencode(name), sizes.get(name, 0)) for number, name in enumerate(names)]
        entries = [entry for entry in encoded if _is_name(entry.name)]
        if self._proxy.under_taint or not self._descriptors.none_open or not entries:
            return
        answers = self._run(opener, entries, question)
        if answers is None:  # perhaps code without a memo: with one it can be run
            self._ask_singly(opener, entries[0], question)
            answers = self._run(opener, entries, question)
        for index, entry in enumerate(entries if answers else ()):
            if answers and answers[3 * index] >= 0:
                yield entry.number, answers[3 * index + 1]

    def _run(self, opener: FolderOpener, entries: Sequence[_Entry], question: _Question) -> list[int] | None:
        """The answers of a program, three for each entry; None if it was rolled back."""
        memory = self._proxy.program_memory
        how = memory.put(_HOW_AT, how_in_root(question.flags))
        empty = memory.put(_EMPTY_AT, b"\0")
        try:
            with opener() as folder:
                steps: list[Step] = []
                for number, name, size in entries:
                    at, opened = _ENTRIES_AT + number * _ROOM, len(steps)
                    path, room = memory.put(at, name + b"\0"), memory.put(at + _ANSWER_AT, b"")
                    arguments = (0, *question.arguments(empty, room, size))
                    steps += [
                        Step("openat2", (folder.number, path, how, HOW_SIZE), None, "twin"),
                        Step(question.call, arguments, opened, question.side),
                        Step("close", (0,), opened),
                    ]
                answers = memory.run(steps)
        except (OSError, CallRolledBack):
            return []
        if answers is not None:
            self._descriptors.count_closed(len(entries))
        return answers

    def _ask_singly(self, opener: FolderOpener, entry: _Entry, question: _Question) -> None:
        """The same calls about one entry, one by one, by which their code is proven."""
        proxy = self._proxy
        with contextlib.suppress(OSError, CallRolledBack), opener() as folder:
            how = proxy.caller.put(how_in_root(question.flags), _HOW_IN_USER_MEMORY)
            path = proxy.put_path(os.fsdecode(entry.name))
            number = proxy.raw("openat2", folder.number, path, how, HOW_SIZE, side="twin")
            if number >= 0:
                arguments = question.arguments(proxy.put_path(""), proxy.buffer(), entry.size)
                proxy.raw(question.call, number, *arguments, side=question.side)
                proxy.raw("close", number)


def _parts(names: Iterable[str]) -> Iterator[list[str]]:
    waiting = iter(names)
    while part := list(islice(waiting, AT_ONCE)):
        yield part


def _is_name(name: bytes) -> bool:
    """A forged one may be longer, or a path."""
    return 0 < len(name) <= _NAME_MAX and b"\0" not in name and b"/" not in name
