"""Asking about many entries of one folder at once, in programs of several calls (`bridge.run.program`).

Each entry is opened by its name from the folder's descriptor, by the twin's code, as `RootFiles.open` does by
a path. What cannot be answered so (an error, code without a memo) is left out, and is to be asked singly.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from hybridbridge_vol.bridge.run.copy_log import CopyLog
from hybridbridge_vol.bridge.run.program import DATA_OFFSET, ProgramMemory, Step
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.descriptors import Descriptor, Descriptors
from hybridbridge_vol.guest.file_attributes import STATX_ALL, STATX_SIZE, FileAttributes, parse_statx
from hybridbridge_vol.guest.named_pages import LARGEST_NAMED_READ
from hybridbridge_vol.guest.proxy_calls import PATH_SIZE, ProxyCalls

AT_ONCE = 256
"""Entries in one program."""
_NAME_MAX = 255
"""include/uapi/linux/limits.h."""
_ROOM = 1024
"""Bytes for an entry: its name, and behind it the answer."""
_ANSWER_AT = 512
_HOW_FOLDER, _HOW_ENTRY, _EMPTY, _FOLDER = (DATA_OFFSET + at for at in (0, 64, 128, 256))
_ENTRIES = DATA_OFFSET + 256 + PATH_SIZE
_AT_EMPTY_PATH = 0x1000
_O_PATH, _O_DIRECTORY, _O_NOFOLLOW, _O_NONBLOCK = 0o10000000, 0o200000, 0o400000, 0o4000
_RESOLVE_IN_ROOT = 0x10  # include/uapi/linux/openat2.h
_HOW = struct.Struct("<QQQ")
"""struct open_how: flags, mode, resolve."""


_Question = Callable[[ProgramMemory, int, int], Step]
"""The step that asks about an entry: where its room in the program's memory is, and the number of the step
that opens it."""


Root = Callable[[], Descriptor]
"""The descriptor of a root: another one after a call was rolled back."""


class FolderScan:
    """Programs about folders."""

    def __init__(self, proxy: ProxyCalls, descriptors: Descriptors) -> None:
        self._proxy = proxy
        self._descriptors = descriptors
        self._log = CopyLog(proxy.caller)

    @property
    def _is_possible(self) -> bool:
        """Not under taint, where each answer has labels of its own; nor while a file is open, which rolling
        back a program would close."""
        return not self._proxy.under_taint and self._descriptors.none_open

    def attributes(self, root: Root, folder: str, names: Iterable[str]) -> dict[str, FileAttributes]:
        """statx(2) of entries themselves; `folder` is relative to the root."""
        found: dict[str, FileAttributes] = {}
        waiting = iter(names)
        while part := list(islice(waiting, AT_ONCE)):
            for number, answers in self._ask(root, folder, part, _O_PATH | _O_NOFOLLOW, self._statx):
                if answers == 0:
                    at = _ENTRIES + number * _ROOM + _ANSWER_AT
                    found[part[number]] = parse_statx(self._proxy.program_memory.get(at, STATX_SIZE))
        return found

    def whole(self, root: Root, folder: str, sizes: Mapping[str, int]) -> set[str]:
        """Those of the regular files with these sizes of which memory holds every byte; of the others some do
        too if they are large."""
        small = [name for name, size in sizes.items() if 0 < size < LARGEST_NAMED_READ]
        found: set[str] = set()
        waiting = iter(small)
        while part := list(islice(waiting, AT_ONCE)):
            with self._log.switched_on():
                answers = list(self._ask(root, folder, part, _O_NONBLOCK | _O_NOFOLLOW, self._pread))
            # what was logged is not looked at: the count is the kernel's
            found |= {part[number] for number, count in answers if count == sizes[part[number]]}
        return found

    @staticmethod
    def _statx(memory: ProgramMemory, at: int, number: int) -> Step:
        empty, buffer = memory.put(_EMPTY, b"\0"), memory.put(at + _ANSWER_AT, b"")
        return Step("statx", (0, empty, _AT_EMPTY_PATH, STATX_ALL, buffer), number, "twin")

    @staticmethod
    def _pread(memory: ProgramMemory, at: int, number: int) -> Step:
        return Step("pread64", (0, memory.put(at + _ANSWER_AT, b""), LARGEST_NAMED_READ, 0), number)

    def _ask(
        self, root: Root, folder: str, names: Sequence[str], flags: int, question: _Question
    ) -> Iterator[tuple[int, int]]:
        """The number of each name that could be opened, and the answer of the question about it."""
        fitting = [(number, os.fsencode(name)) for number, name in enumerate(names)]
        fitting = [(number, name) for number, name in fitting if _is_name(name)]
        path = os.fsencode(folder.lstrip("/") or ".")
        if not self._is_possible or not fitting or len(path) >= PATH_SIZE or b"\0" in path:
            return
        memory = self._proxy.program_memory
        how = memory.put(_HOW_FOLDER, _HOW.pack(_O_PATH | _O_DIRECTORY, 0, _RESOLVE_IN_ROOT))
        how_entry = memory.put(_HOW_ENTRY, _HOW.pack(flags, 0, _RESOLVE_IN_ROOT))
        steps = [Step("openat2", (0, memory.put(_FOLDER, path + b"\0"), how, _HOW.size), None, "twin")]
        for number, name in fitting:
            at, opened = _ENTRIES + number * _ROOM, len(steps)
            steps += [
                Step("openat2", (0, memory.put(at, name + b"\0"), how_entry, _HOW.size), 0, "twin"),
                question(memory, at, opened),
                Step("close", (0,), opened),
            ]
        steps.append(Step("close", (0,), 0))
        try:
            answers = memory.run([_below(root(), steps[0]), *steps[1:]])
            if answers is None:
                answers = memory.run_one_by_one([_below(root(), steps[0]), *steps[1:]])
        except CallRolledBack:
            return
        if answers[0] < 0:
            return
        self._descriptors.count_closed(len(fitting) + 1)
        for index, (number, _name) in enumerate(fitting):
            if answers[3 * index + 1] >= 0:
                yield number, answers[3 * index + 2]


def _below(root: Descriptor, step: Step) -> Step:
    return step._replace(arguments=(root.number, *step.arguments[1:]))


def _is_name(name: bytes) -> bool:
    """A forged one may be longer, or a path."""
    return 0 < len(name) <= _NAME_MAX and b"\0" not in name and b"/" not in name
