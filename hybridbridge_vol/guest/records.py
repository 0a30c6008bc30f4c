"""Reading a list of the kernel's behind a record that it cannot write.

Most lists of /proc are written record by record (`struct seq_file`, fs/seq_file.c): `show` writes the text of
an object, `next` finds the following one. Where an object is damaged, `show` does not end well, the call is
rolled back, and with it the whole list is lost. What the kernel does with a record that `show` asks to be
skipped (SEQ_SKIP) is done here instead of it: `next` is called, and nothing is written. That is between two
reads: each ends with `stop`, and the next begins with `start` at `index`.

A record of which `next` fails has lost what leads to the others: the list ends with it.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator

from hybridbridge_vol.errors import CallRolledBack, KernelFileError, StoreError, pointer_error
from hybridbridge_vol.guest.descriptors import OpenFile
from hybridbridge_vol.guest.endless import MAX_FILE_SIZE
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.values import MissingRecords
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.trust.type_information import struct_layouts
from hybridbridge_vol.units import U64

MAX_MISSING = 256
"""Records of one list that are passed over: each costs some calls, and all that were read before are read
again."""
READ_SIZE = 16 << 10
"""Bytes of one read: as many records at the most are read one by one to find the one that fails."""
_FAILED = (OSError, CallRolledBack, UnmappedVirtual)

Open = Callable[[], OpenFile]
"""Opens the file: again, where a call that was rolled back has closed it."""


class _Sequence:
    """The `struct seq_file` of an open file. LookupError if it is none, if it is of one record, or if the
    kernel has no type information."""

    def __init__(self, proxy: ProxyCalls, file: OpenFile) -> None:
        self._proxy = proxy
        self._file = file
        try:
            self._types = struct_layouts(proxy.bridge.kernel)
        except (KernelFileError, StoreError) as error:
            raise LookupError(str(error)) from None
        self._opened, self._at = self._find()
        """The virtual addresses of the `struct file` and of the `struct seq_file`."""
        if self._is_single():
            raise LookupError("one record")

    def _is_single(self) -> bool:
        """Whether the file is one record, as single_open() makes it: nothing is behind it."""
        symbols, bridge = self._proxy.bridge.kernel.symbols, self._proxy.bridge
        start = self._operation("start")
        return "single_start" in symbols and start in (
            bridge.home("single_start"),
            bridge.snapshot("single_start"),
        )

    def _find(self) -> tuple[int, int]:
        call, home = self._proxy.caller.call, self._proxy.bridge.home
        file = call(home("fget"), self._file.number, label="fget") & U64
        try:
            private = self._word(file + self._types.offset("file", "private_data"))
            for place in self._candidates(private):
                at = self._types.offset("seq_file", "file")
                if place in self._proxy.bridge.boot.layout and self._word(place + at) == file:
                    return file, place
        finally:
            call(home("fput"), file, label="fput")
        raise LookupError("not a sequence of records")

    def _candidates(self, private: int) -> Iterator[int]:
        """The file's private data; and what that leads to in a file of kernfs (fs/kernfs/file.c)."""
        yield private
        if private in self._proxy.bridge.boot.layout and self._types.has("kernfs_open_file", "seq_file"):
            yield self._word(private + self._types.offset("kernfs_open_file", "seq_file"))

    def _word(self, vaddr: int) -> int:
        return self._proxy.bridge.machine.read_u64(vaddr)

    def _field(self, name: str) -> int:
        return self._at + self._types.offset("seq_file", name)

    def advance(self, size: int) -> None:
        """Read so many bytes, which end with a record, for nobody."""
        while size > 0:
            count = self._proxy.checked(
                self._file.path, "read", self._file.number, self._proxy.buffer(), min(size, READ_SIZE)
            )
            if not count:
                raise CallRolledBack(self._file.path, "the list is shorter than it was")
            size -= count

    def record(self) -> int:
        """Read one record for nobody; its size, 0 at the end. A read of one byte has the kernel write the
        whole record: the rest would be copied first by the next read."""
        number, buffer = self._file.number, self._proxy.buffer()
        if not self._proxy.checked(self._file.path, "read", number, buffer, 1):
            return 0
        rest = self._word(self._field("count"))
        self._proxy.bridge.machine.write_u64(self._field("count"), 0)
        return 1 + rest

    def skip(self) -> None:
        """Pass over one record. CallRolledBack if the kernel cannot find the one behind it.

        seq_read() begins with the first record again where nothing was read: then the file is put to where it
        is after one byte.
        """
        index = self._field("index")
        first = self._call("start", self._at, index)
        if _is_record(first):
            before = self._word(index)
            first = self._call("next", self._at, first, index)
            if self._word(index) == before:  # as seq_read() does where `next` has forgotten to
                self._proxy.bridge.machine.write_u64(index, before + 1)
        self._call("stop", self._at, first)
        if not self._word(self._field("read_pos")):
            position = self._opened + self._types.offset("file", "f_pos")
            for vaddr in (self._field("read_pos"), position):
                self._proxy.bridge.machine.write_u64(vaddr, 1)

    def text(self) -> bytes:
        """What `show` writes of one record, if it fits into the buffer that the reads before have made. No
        other record can be read then."""
        self._call("show", self._at, self._call("start", self._at, self._field("index")))
        count, size = (self._word(self._field(name)) for name in ("count", "size"))
        return self._proxy.bridge.machine.read(self._word(self._field("buf")), count) if count < size else b""

    def _operation(self, name: str) -> int:
        return self._word(self._word(self._field("op")) + self._types.offset("seq_operations", name))

    def _call(self, name: str, *arguments: int) -> int:
        return self._proxy.caller.call(self._operation(name), *arguments, label=f"seq_file {name}") & U64


class _Reading:
    """One file, read as far as it goes. The runs are the bytes before each record that is left out, and since
    the last one."""

    def __init__(self, proxy: ProxyCalls, path: str, open_: Open) -> None:
        self._proxy = proxy
        self._path = path
        self._open = open_
        self._runs = [0]
        self._end = time.process_time() + proxy.patience.seconds
        self.parts: list[bytes] = []
        self.behind: list[int] = []
        """For each record that is left out the number of lines before it."""
        self.reason = ""
        """Why the last one was."""

    def read(self) -> None:
        """All that can be read. `_FAILED` or LookupError where it must end."""
        with self._open() as file:
            _Sequence(self._proxy, file)
            done = self._forward(file)
        while not done:
            good = self._measure()
            done = self._leave_out(good)

    def _measure(self) -> int:
        """The size of the records that can be read behind what was, one by one."""
        good = 0
        with self._open() as file:
            sequence = self._reach(file)
            try:
                while size := sequence.record():
                    good += size
            except CallRolledBack as error:
                self.reason = self.reason or error.reason
                return good
        raise CallRolledBack(self._path, "it reads otherwise each time")

    def _leave_out(self, good: int) -> bool:
        """Read on over `good` bytes and the record behind them; whether that was to the end."""
        with self._open() as file:
            sequence = self._reach(file)
            while good > 0:
                part = file.read(min(good, READ_SIZE))
                good -= self._take(part)
            lines = sum(part.count(b"\n") for part in self.parts)
            if len(self.behind) >= MAX_MISSING or time.process_time() > self._end:
                raise CallRolledBack(self._path, self.reason)
            try:
                sequence.skip()
            except CallRolledBack:
                self._read_last()
                raise
            self._runs.append(0)
            self.behind.append(lines)
            return self._forward(file)

    def _read_last(self) -> None:
        """A record that leads to no other may yet be written itself."""
        with contextlib.suppress(*_FAILED), self._open() as file:
            self.parts.append(self._reach(file).text())

    def _forward(self, file: OpenFile) -> bool:
        """Read on to the end; False if there is a record that cannot be read."""
        try:
            while part := file.read(READ_SIZE):
                self._take(part)
        except CallRolledBack:
            return False
        return True

    def _reach(self, file: OpenFile) -> _Sequence:
        """Read again what was read, for nobody."""
        sequence = _Sequence(self._proxy, file)
        for size in self._runs[:-1]:
            sequence.advance(size)
            sequence.skip()
        sequence.advance(self._runs[-1])
        return sequence

    def _take(self, part: bytes) -> int:
        self.parts.append(part)
        self._runs[-1] += len(part)
        if sum(self._runs) > MAX_FILE_SIZE:
            raise OSError(errno.EFBIG, "it does not end", self._path)
        return len(part)


def read_other_records(proxy: ProxyCalls, path: str, open_: Open, error: CallRolledBack) -> MissingRecords:
    """A file of the kernel's of which reading was rolled back with `error`: what there is without the records
    at which that happens. `error` itself is raised if it is not a sequence, or if nothing can be read."""
    proxy.labels.forget(path)
    reading = _Reading(proxy, path, open_)
    reasons = []
    try:
        reading.read()
    except (*_FAILED, LookupError) as end:
        if isinstance(end, LookupError):
            raise error from None
        lines = sum(part.count(b"\n") for part in reading.parts)
        why = end.reason if isinstance(end, CallRolledBack) else getattr(end, "strerror", None) or str(end)
        reasons = [f"what follows line {lines:,} cannot be read: {why}"]
    if not any(reading.parts):
        raise error
    if reading.behind:
        reasons.insert(0, _what_is_left_out(reading.behind, reading.reason))
    return MissingRecords(path, b"".join(reading.parts), "; ".join(reasons), reading.behind)


def _what_is_left_out(behind: list[int], reason: str) -> str:
    if len(behind) == 1:
        return f"what stands behind line {behind[0]:,} cannot be read: {reason}"
    return f"{len(behind):,} records, the first behind line {behind[0]:,}, cannot be read: {reason}"


def _is_record(pointer: int) -> bool:
    """Whether a pointer is none of NULL and errors (include/linux/err.h)."""
    return bool(pointer) and pointer_error(pointer) is None
