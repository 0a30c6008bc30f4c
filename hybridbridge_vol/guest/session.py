"""A session: the kernel of a memory snapshot, answering system calls."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from hybridbridge_vol.bridge.attach import U64, Bridge, attach
from hybridbridge_vol.bridge.calls import USER_SIZE, Caller
from hybridbridge_vol.bridge.hybrid import Mode
from hybridbridge_vol.bridge.modules import MODULES_END, MODULES_START
from hybridbridge_vol.bridge.percpu import current_of
from hybridbridge_vol.bridge.statistics import Statistics
from hybridbridge_vol.errors import AttachError, CallUndone
from hybridbridge_vol.guest.holes import entries_around_holes
from hybridbridge_vol.guest.kernel import Difference, EndlessFile, Running, Stat, Sysinfo, Uname
from hybridbridge_vol.guest.mounts import Mounts
from hybridbridge_vol.guest.traces import Traces
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.machine.memory import PAGE_SIZE
from hybridbridge_vol.snapshot.formats import PhysicalImage, open_image
from hybridbridge_vol.trust.store import Store

Progress = Callable[[float, str], None]

MAX_FILE_SIZE = 64 << 20
"""Bytes `read_file` takes from one file: three times the largest text of /proc (kallsyms); beyond lie only windows on
memory (kcore) and lists that never end."""

MAX_FILE_SECONDS = 20.0
"""Time for one file, four times that under taint: the longest honest one takes two seconds."""

TIDY_AFTER_CLOSES = 64
"""Closed files are freed by work that never runs by itself here; it is run after so many."""

RENEW_AFTER_CLOSES = 4096
"""What waits for an RCU grace period is never freed: after so many files the session starts afresh."""

_PATH_AT = 0
_BUFFER_AT = 64 << 10
_BUFFER_SIZE = USER_SIZE - _BUFFER_AT
_READ_SIZES = (16 << 10, 64 << 10, 256 << 10, 1 << 20)
"""Bytes asked for by the first, second ... read of a file: some files clear a buffer of that size first."""
_DIRENTS_SIZE = 256 << 10
_STAT_SIZE = 144

_VIEW_REGSETS = 8
"""`regsets` in `struct user_regset_view`, behind `name` (include/linux/regset.h)."""
REGISTERS_SIZE = 216
"""`struct user_regs_struct`: 27 registers."""

_LARGEST_MODULE_HOLE = 64 << 20

_AT_FDCWD = -100
_O_RDONLY, _O_DIRECTORY = 0, 0o200000
_AT_SYMLINK_NOFOLLOW = 0x100
_CLOCK_REALTIME, _CLOCK_MONOTONIC, _CLOCK_BOOTTIME = 0, 1, 7
_PIDTYPE_PID, _PIDTYPE_TGID = 0, 1  # include/linux/pid_types.h
_MSG_DONTWAIT = 0x40


class GuestFile:
    """An open file of the guest."""

    def __init__(self, session: Session, fd: int, path: str) -> None:
        self._session = session
        self.fd = fd
        self.path = path

    def read(self, size: int = _READ_SIZES[-1]) -> bytes:
        """Up to `size` bytes from the current position; empty at the end."""
        return self._session._read(self.fd, size, self.path)

    def close(self) -> None:
        """Close it. Closing twice is harmless."""
        if self.fd >= 0:
            self._session._close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Session:
    """See `open_session`. Implements `guest.kernel.GuestKernel`; every path is the snapshot's /proc or /sys."""

    def __init__(
        self, bridge: Bridge, mode: Mode = Mode.AUTO, ns_of: int | None = None, progress: Progress | None = None
    ) -> None:
        self.bridge = bridge
        self.progress: Progress = progress or (lambda _fraction, _text: None)
        self._caller = Caller(bridge, mode)
        self._mounts = Mounts(self._caller)
        self._generation = 0
        self._closes = 0
        self._open_files = 0
        self._route_socket: tuple[int, int] | None = None
        """A descriptor, and the generation that it was opened in."""
        self.traces: Traces | None = None
        """Where answers came from, once `trace` was called."""
        try:
            if ns_of is not None:
                from hybridbridge_vol.bridge.namespaces import enter

                enter(self._caller, ns_of)
            self._mounts.reach("/proc")
        except CallUndone as error:
            raise AttachError(f"{bridge.image.path}: the snapshot's /proc cannot be reached: {error.reason}") from None
        finally:
            bridge.confirm()
        self._caller.mark()

    # --- life ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let everything go."""
        self._caller.hybrid.close()
        self.bridge.close()
        self.bridge.image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def keep_learned(self) -> None:
        """Put what was proven so far into the store, as `close` does: it stays if this process is ended."""
        self._caller.hybrid.keep_learned()

    def trace(self) -> Traces:
        """From here on remember where the bytes of answers come from. Only in mode `slow`: labels are SLOW's."""
        if self.traces is None:
            engine = self._caller.hybrid.slow.engine
            self.traces = Traces(engine.origins, self.bridge.image.offset_of)
        return self.traces

    @property
    def calls(self) -> int:
        """How many calls were made into the kernel."""
        return self._caller.hybrid.statistics.total.calls

    @property
    def undone(self) -> int:
        """How many of them were thrown away."""
        return self._caller.hybrid.statistics.total.undone

    @property
    def statistics(self) -> Statistics:
        """What was done so far."""
        return self._caller.hybrid.finish_statistics()

    # --- files --------------------------------------------------------------------------------------------

    def _checked(self, answer: int, path: str) -> int:
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer), path)
        return answer

    def _path(self, path: str) -> int:
        encoded = os.fsencode(path)
        if len(encoded) >= 4096 or b"\0" in encoded:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        if self._mounts.reach(path):
            self._caller.mark()
        return self._caller.put(encoded + b"\0", _PATH_AT)

    def open(self, path: str, flags: int = _O_RDONLY) -> GuestFile:
        """Open a file of the snapshot for reading. OSError with the guest's errno; CallUndone."""
        name = self._path(path)
        fd = self._checked(self._syscall("openat", path, _AT_FDCWD & ((1 << 64) - 1), name, flags, 0), path)
        self._open_files += 1
        return GuestFile(self, fd, path)

    def _syscall(self, name: str, path: str, *arguments: int, side: str = "home") -> int:
        try:
            return self._caller.syscall(name, *arguments, side=side, label=f"{name} {path}".rstrip())
        except CallUndone:
            self._open_files = self._closes = 0
            self._generation += 1
            raise

    def _read(self, fd: int, size: int, path: str) -> bytes:
        size = min(size, _READ_SIZES[-1])
        buffer = self._caller.put(b"", _BUFFER_AT)
        count = self._checked(self._syscall("read", path, fd, buffer, size), path)
        return self._answer(path, min(count, size), more=True)

    def _answer(self, source: str, size: int, more: bool = False) -> bytes:
        """What a call left in the buffer; its labels are kept under `source` (added to those there if `more`)."""
        if self.traces is not None:
            self.traces.keep(source, self._caller.labels(_BUFFER_AT, size), more)
        return self._caller.get(_BUFFER_AT, size)

    def _close(self, fd: int) -> None:
        self._syscall("close", "", fd)
        self._open_files -= 1
        self._closes += 1
        if self._closes % TIDY_AFTER_CLOSES == 0:
            for name in ("flush_delayed_fput", "task_work_run"):
                with contextlib.suppress(KeyError, CallUndone):
                    self._caller.call(self.bridge.home(name), label=name)
        if self._closes >= RENEW_AFTER_CLOSES and self._open_files == 0:
            self._closes = 0
            self._generation += 1
            self._caller.undo()

    @contextlib.contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[GuestFile]:
        """An open file that is closed when the block ends, unless its session was set back meanwhile."""
        file = self.open(path, flags)
        if self.traces is not None:
            self.traces.forget(path)
        generation = self._generation
        try:
            yield file
        finally:
            if generation == self._generation:
                file.close()

    def read_file(self, path: str) -> bytes:
        """The whole content of a file. EndlessFile if it goes on beyond `MAX_FILE_SIZE` or `MAX_FILE_SECONDS`."""
        parts: list[bytes] = []
        total = 0
        end = self._deadline()
        with self._opened(path, _O_RDONLY) as file:
            while part := file.read(_READ_SIZES[min(len(parts), len(_READ_SIZES) - 1)]):
                parts.append(part)
                total += len(part)
                if total > MAX_FILE_SIZE or time.monotonic() > end:
                    raise EndlessFile(path, b"".join(parts))
        return b"".join(parts)

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """`pread(2)`: up to `size` bytes, at most a MiB, from `offset` of a file."""
        size = min(size, _READ_SIZES[-1])
        with self._opened(path, _O_RDONLY) as file:
            buffer = self._caller.put(b"", _BUFFER_AT)
            count = self._checked(self._syscall("pread64", path, file.fd, buffer, size, offset), path)
            return self._answer(path, min(count, size))

    def in_image(self, paddr: int, size: int) -> bool:
        """Whether the image holds these bytes of physical memory."""
        run = self.bridge.image.run_at(paddr)
        return run is not None and paddr + size <= run.paddr + run.size

    def registers(self, tid: int) -> bytes | None:
        """See `GuestKernel`: by the kernel's own regset (include/linux/regset.h), the first of which is the general one."""
        snapshot = self.bridge.snapshot
        task = self._caller.call(snapshot("find_task_by_vpid"), tid, label="find_task_by_vpid")
        if not task:
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{tid}")
        view = self._caller.call(snapshot("task_user_regset_view"), task, label="task_user_regset_view")
        general = self.bridge.machine.read_u64((view & U64) + _VIEW_REGSETS)
        buffer = self._caller.put(b"", _BUFFER_AT)
        size = self._caller.call(snapshot("regset_get"), task, general, REGISTERS_SIZE, buffer, label="regset_get")
        return self._caller.get(_BUFFER_AT, size) if size == REGISTERS_SIZE else None

    def task_list(self) -> tuple[list[tuple[int, int]], str]:
        """See `GuestKernel`; the ids are those of the snapshot's first pid namespace."""
        from hybridbridge_vol.bridge.task_list import task_list

        tasks, reason = task_list(self.bridge)
        pid_of, found = self.bridge.snapshot("__task_pid_nr_ns"), []
        for task in tasks:
            try:
                found.append((self._caller.call(pid_of, task, 0, 0, label="__task_pid_nr_ns"), task))
            except CallUndone as error:
                reason = reason or f"of the task at {task:#x}: {error.reason}"
        return found, reason

    def module_pages(self) -> Iterator[int]:
        """See `GuestKernel`. Modules lie close together: the search ends behind the first large hole."""
        hole = 0
        for vaddr in range(MODULES_START, MODULES_END, PAGE_SIZE):
            if self.bridge.layout.translate(self.bridge.image, vaddr):
                hole = 0
                yield vaddr
            elif (hole := hole + PAGE_SIZE) > _LARGEST_MODULE_HOLE:
                return

    def symbol(self, vaddr: int) -> str:
        """See `GuestKernel`: sprint_symbol()."""
        buffer = self._caller.put(b"", _BUFFER_AT)
        size = self._caller.call(self.bridge.snapshot("sprint_symbol"), buffer, vaddr, label="sprint_symbol")
        return os.fsdecode(self._caller.get(_BUFFER_AT, min(max(size, 0), 1024)))

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, without `.` and `..`, in the kernel's order.

        In /proc a process that the kernel cannot list is passed over and named nonetheless: reading its files tells
        what is wrong with it.
        """
        try:
            entries = self._entries(path)
        except CallUndone:
            if path.rstrip("/") != "/proc":
                raise
            entries = list(entries_around_holes(self._entries_from, self._has_process))
        return [name for _next, name in entries if name not in (".", "..")]

    def _entries(self, path: str) -> list[tuple[int, str]]:
        """All entries of a directory, each with the position behind it."""
        entries: list[tuple[int, str]] = []
        with self._opened(path, _O_RDONLY | _O_DIRECTORY) as file:
            while part := self._next_entries(file, _DIRENTS_SIZE):
                entries += part
        return entries

    def _next_entries(self, file: GuestFile, size: int) -> list[tuple[int, str]]:
        buffer = self._caller.put(b"", _BUFFER_AT)
        count = self._checked(self._syscall("getdents64", file.path, file.fd, buffer, size), file.path)
        return list(directory_entries(self._answer(f"getdents64 {file.path}", min(count, size))))

    def _entries_from(self, position: int, size: int) -> list[tuple[int, str]] | None:
        """Entries of /proc from a position on, as many as one buffer of `size` bytes takes; None if it was undone."""
        try:
            with self._opened("/proc", _O_RDONLY | _O_DIRECTORY) as file:
                self._checked(self._syscall("lseek", file.path, file.fd, position, os.SEEK_SET), file.path)
                return self._next_entries(file, size)
        except CallUndone:
            return None

    def _has_process(self, pid: int) -> bool:
        try:
            self.stat(f"/proc/{pid}")
        except FileNotFoundError:
            return False
        except (OSError, CallUndone):
            return True
        return True

    def readlink(self, path: str) -> str:
        """Where a symbolic link points, as `readlink(2)` tells it."""
        name, buffer = self._path(path), self._caller.put(b"", _BUFFER_AT)
        arguments = (_AT_FDCWD & ((1 << 64) - 1), name, buffer, 4096)
        count = self._checked(self._syscall("readlinkat", path, *arguments), path)
        return os.fsdecode(self._answer(f"readlink {path}", min(count, 4096)))

    def stat(self, path: str, follow: bool = False) -> Stat:
        """`lstat(2)`, with `follow` `stat(2)`: by the twin's code, since the end of the path is the snapshot's, no
        reference to which is taken or dropped."""
        name, buffer = self._path(path), self._caller.put(b"", _BUFFER_AT)
        arguments = (_AT_FDCWD & ((1 << 64) - 1), name, buffer, 0 if follow else _AT_SYMLINK_NOFOLLOW)
        self._checked(self._syscall("newfstatat", path, *arguments, side="twin" if follow else "home"), path)
        return parse_stat(self._answer(f"{'stat' if follow else 'lstat'} {path}", _STAT_SIZE))

    # --- the system ---------------------------------------------------------------------------------------

    def uname(self) -> Uname:
        """The names of the system, from the snapshot's own UTS namespace."""
        buffer = self._caller.put(b"", _BUFFER_AT)
        self._checked(self._syscall("newuname", "", buffer), "uname")
        raw = self._answer("uname", 6 * 65)
        fields = [raw[65 * i : 65 * i + 65].split(b"\0")[0].decode("utf-8", "surrogateescape") for i in range(6)]
        return Uname(*fields)

    def sysinfo(self) -> Sysinfo:
        """Memory, load and uptime."""
        buffer = self._caller.put(b"", _BUFFER_AT)
        self._checked(self._syscall("sysinfo", "", buffer, side="twin"), "sysinfo")
        return parse_sysinfo(self._answer("sysinfo", 112))

    def syslog(self, action: int, size: int) -> bytes:
        """`syslog(2)`: the kernel's log buffer (action 3 reads it, 10 asks for its size)."""
        size = min(size, _BUFFER_SIZE)
        buffer = self._caller.put(b"", _BUFFER_AT)
        count = self._checked(self._syscall("syslog", "", action, buffer, size, side="twin"), "syslog")
        return self._answer("syslog", min(count, size))

    def differences(self) -> Iterator[Difference]:
        """What of the kernel itself differs from the trusted one. StoreError or KernelFileError if that cannot be read."""
        from hybridbridge_vol.guest.integrity import Integrity
        from hybridbridge_vol.guest.places import listed_modules

        return Integrity(self.bridge, listed_modules(self)).differences()

    def rtnetlink(self, kind: int, body: bytes) -> bytes:
        """What the kernel's routing tables answer to a request for all of a kind (RTM_GET*, `body` behind its header):
        the messages, one after the other. EndlessFile as for `read_file`."""
        from hybridbridge_vol.bridge.route_socket import open_route_socket
        from hybridbridge_vol.guest.rtnetlink import dump_request, is_last

        if self._route_socket is None or self._route_socket[1] != self._generation:
            self._route_socket = open_route_socket(self._caller), self._generation
        fd, source = self._route_socket[0], f"rtnetlink {kind}"
        request = dump_request(kind, body)
        buffer = self._caller.put(request, _BUFFER_AT)
        self._checked(self._syscall("sendto", source, fd, buffer, len(request), 0, 0, 0), source)
        if self.traces is not None:
            self.traces.forget(source)
        parts: list[bytes] = []
        end = self._deadline()
        while not parts or not is_last(parts[-1]):
            buffer = self._caller.put(b"", _BUFFER_AT)
            size = self._checked(self._syscall("recvfrom", source, fd, buffer, _READ_SIZES[-1], _MSG_DONTWAIT, 0, 0), source)
            parts.append(self._answer(source, min(size, _READ_SIZES[-1]), more=True))
            if sum(map(len, parts)) > MAX_FILE_SIZE or time.monotonic() > end:
                raise EndlessFile(source, b"".join(parts))
        return b"".join(parts)

    def _deadline(self) -> float:
        return time.monotonic() + MAX_FILE_SECONDS * (4 if self._caller.hybrid.mode is Mode.SLOW else 1)

    def _clock(self, clock: int) -> float:
        buffer = self._caller.put(b"", _BUFFER_AT)
        self._checked(self._syscall("clock_gettime", "", clock, buffer, side="twin"), "clock_gettime")
        seconds, nanoseconds = struct.unpack("<qq", self._answer("clock_gettime", 16))
        return float(seconds + nanoseconds / 1e9)

    def realtime(self) -> float:
        """Seconds since the epoch at the freeze, by the snapshot's own clock."""
        return self._clock(_CLOCK_REALTIME)

    def monotonic(self) -> float:
        """Seconds on CLOCK_MONOTONIC at the freeze: since boot, without time asleep."""
        return self._clock(_CLOCK_MONOTONIC)

    def running(self) -> list[Running | CallUndone]:
        """What each CPU was at. CPUs are those of /proc/stat; the numbers are the kernel's own function's."""
        cpus = [int(name[3:]) for name in self.read_file("/proc/stat").decode().split() if re.fullmatch(r"cpu\d+", name)]
        return [self._running(cpu) for cpu in cpus]

    def _running(self, cpu: int) -> Running | CallUndone:
        label = f"getpid on CPU {cpu}"
        bridge = self.bridge
        try:
            task = current_of(bridge, cpu)
            numbers = bridge.snapshot("__task_pid_nr_ns")
            answers = [
                self._caller.call(numbers, task, kind, bridge.snapshot("init_pid_ns"), label=label) & 0x7FFFFFFF
                for kind in (_PIDTYPE_TGID, _PIDTYPE_PID)
            ]
        except CallUndone as error:
            return error
        except KeyError as error:
            return CallUndone(label, f"this kernel has no symbol {error}")
        except UnmappedVirtual as error:
            return CallUndone(label, f"the image does not hold {error.vaddr:#x}")
        return Running(cpu, *answers)

    def boottime(self) -> float:
        """Seconds from boot to the freeze."""
        return self._clock(_CLOCK_BOOTTIME)


def directory_entries(data: bytes) -> Iterator[tuple[int, str]]:
    """`(position behind it, name)` of what getdents64 wrote (include/linux/dirent.h, `struct linux_dirent64`)."""
    offset = 0
    while offset + 19 <= len(data):
        position, length = struct.unpack_from("<QH", data, offset + 8)
        if length < 20:
            return
        yield position, os.fsdecode(data[offset + 19 : offset + length].split(b"\0")[0])
        offset += length


def parse_stat(data: bytes) -> Stat:
    """`struct stat` of x86-64 (arch/x86/include/uapi/asm/stat.h)."""
    dev, ino, nlink, mode, uid, gid, _pad, rdev, size = struct.unpack_from("<QQQIIIIQq", data)
    seconds, nanoseconds = struct.unpack_from("<QQ", data, 88)
    return Stat(
        mode=mode, ino=ino, dev=dev, nlink=nlink, uid=uid, gid=gid, size=size, mtime=seconds + nanoseconds / 1e9, rdev=rdev
    )


def parse_sysinfo(data: bytes) -> Sysinfo:
    """`struct sysinfo` (include/uapi/linux/sysinfo.h)."""
    uptime, *rest = struct.unpack_from("<q3Q6QHHxxxxQQI", data)
    loads, (total, free, shared, buffers, total_swap, free_swap, procs, _pad, total_high, free_high, unit) = rest[:3], rest[3:]
    return Sysinfo(
        uptime, (loads[0], loads[1], loads[2]), total, free, shared, buffers, total_swap, free_swap, procs, total_high,
        free_high, unit,
    )


def open_session(
    path: str | Path, store: Path | None = None, progress: Progress | None = None, mode: str = Mode.AUTO,
    ns_of: int | None = None,
) -> Session:
    """Open a memory image, find its kernel among the trusted ones and attach to it; `mode` is a `bridge.hybrid.Mode`.

    The session sees what the process `ns_of` (by default the first) sees from inside its namespaces: processes,
    network, names, users, control groups, and as /proc/self itself. Raises ImageError, KernelNotStored, AttachError,
    StoreError, BootError, and OptionError if there is no such process: all HybridBridgeError.
    """
    image = open_image(path, progress)
    try:
        return open_attached(image, Store(store), progress, mode, ns_of)
    except BaseException:
        image.close()
        raise


def open_attached(
    image: PhysicalImage, store: Store, progress: Progress | None, mode: str = Mode.AUTO, ns_of: int | None = None
) -> Session:
    """As `open_session`, on an opened image, which stays the caller's to close on failure."""
    from hybridbridge_vol.snapshot.find import find_kernel

    kernels = store.kernels()
    try:
        hit = find_kernel(image, kernels)
    except AttachError as error:
        raise AttachError(f"{image.path}: {error}") from None
    if hit is None:
        from hybridbridge_vol.guest.unknown import explain_unknown

        raise explain_unknown(image, store, progress)
    index, found = hit
    bridge = attach(image, kernels[index], found, progress)
    try:
        return Session(bridge, Mode(mode), ns_of, progress)
    except BaseException:
        bridge.close()
        raise
