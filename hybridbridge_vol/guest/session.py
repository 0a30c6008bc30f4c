"""A session: the kernel of a memory snapshot, answering system calls."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from hybridbridge_vol.bridge.attach import attach
from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.modules.snapshot_modules import MODULES_END, MODULES_START
from hybridbridge_vol.bridge.objects.current_task import current_of
from hybridbridge_vol.bridge.run.caller import USER_SIZE
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.bridge.run.statistics import Statistics
from hybridbridge_vol.errors import AttachError, CallRolledBack
from hybridbridge_vol.guest import forked_workers as copies
from hybridbridge_vol.guest.abi import parse_sysinfo
from hybridbridge_vol.guest.files import BUFFER_AT, MAX_FILE_SIZE, READ_SIZES, Files
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.toolkit.guest_kernel import Difference, EndlessFile, Registers, Running, Sysinfo, Uname
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import PAGE_SIZE, U64, Progress

P = TypeVar("P")
T = TypeVar("T")

_LARGEST_MODULE_HOLE = 64 << 20

_CLOCK_REALTIME, _CLOCK_MONOTONIC, _CLOCK_BOOTTIME = 0, 1, 7
_PIDTYPE_PID, _PIDTYPE_TGID = 0, 1  # include/linux/pid_types.h
_MSG_DONTWAIT = 0x40


class Session(Files):
    """See `open_session`. Implements `guest.kernel.GuestKernel`; every path is the snapshot's /proc or
    /sys."""

    def __init__(
        self,
        bridge: Bridge,
        mode: Mode = Mode.AUTO,
        ns_of: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(bridge, mode)
        self.progress: Progress = progress or (lambda _fraction, _text: None)
        self.processors = copies.processors()
        """How many `each_part` may use."""
        self._route_socket: tuple[int, int] | None = None
        """A descriptor, and the generation that it was opened in."""
        try:
            if ns_of is not None:
                from hybridbridge_vol.bridge.objects.namespaces import enter

                enter(self._caller, ns_of)
            self._mounts.reach("/proc")
        except CallRolledBack as error:
            raise AttachError(
                f"{bridge.image.path}: the snapshot's /proc cannot be reached: {error.reason}"
            ) from None
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

    @property
    def calls(self) -> int:
        """How many calls were made into the kernel."""
        return self._caller.hybrid.statistics.total.calls

    @property
    def rolled_back(self) -> int:
        """How many of them were thrown away."""
        return self._caller.hybrid.statistics.total.rolled_back

    @property
    def statistics(self) -> Statistics:
        """What was done so far."""
        return self._caller.hybrid.finish_statistics()

    # --- many processors --------------------------------------------------------------------------------------

    def each_part(self, parts: Sequence[P], answer: Callable[[P], T]) -> Iterator[T]:
        """See `GuestKernel`. One after the other under taint, whose labels and findings a copy would keep to
        itself."""
        helpers = min(self.processors, len(parts)) - 1
        if helpers < 1 or len(parts) > copies.MOST_PARTS or self._caller.hybrid.mode is Mode.SLOW:
            yield from map(answer, parts)
            return
        self._caller.hybrid.rest()
        if not copies.can_copy():
            yield from map(answer, parts)
            return
        processors, self.processors = (
            self.processors,
            self.processors // (helpers + 1),
        )  # an answer may be made of parts, too
        try:
            yield from copies.in_order(
                parts, answer, helpers, self._begin_copy, self._end_copy, self._copy_ended
            )
        finally:
            self.processors = processors

    def _begin_copy(self) -> None:
        self.progress = lambda _fraction, _text: None
        self._caller.hybrid.statistics = Statistics()

    def _end_copy(self) -> Statistics:
        self.keep_learned()
        return self._caller.hybrid.statistics

    def _copy_ended(self, statistics: object) -> None:
        assert isinstance(statistics, Statistics)
        self._caller.hybrid.statistics.add(statistics)

    # --- beyond files ---------------------------------------------------------------------------------------

    def in_image(self, paddr: int, size: int) -> bool:
        """Whether the image holds these bytes of physical memory."""
        run = self.bridge.image.run_at(paddr)
        return run is not None and paddr + size <= run.paddr + run.size

    def registers(self, tid: int) -> Registers | None:
        """See `GuestKernel`."""
        from hybridbridge_vol.guest.registers import read_registers

        task = (
            self._caller.call(self.bridge.snapshot("find_task_by_vpid"), tid, label="find_task_by_vpid") & U64
        )
        if not task:
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{tid}")
        return read_registers(self._caller, task, task not in self._on_cpus)

    @cached_property
    def _on_cpus(self) -> frozenset[int]:
        """The tasks that CPUs were at, as far as the image tells: virtual addresses of their
        `task_struct`."""
        found = set()
        for cpu in self._cpus():
            with contextlib.suppress(KeyError, UnmappedVirtual):
                found.add(current_of(self.bridge, cpu))
        return frozenset(found)

    def task_list(self) -> tuple[list[tuple[int, int]], str]:
        """See `GuestKernel`; the ids are those of the snapshot's first pid namespace."""
        from hybridbridge_vol.bridge.objects.task_list import task_list

        tasks, reason = task_list(self.bridge)
        pid_of, found = self.bridge.snapshot("__task_pid_nr_ns"), []
        for task in tasks:
            try:
                found.append((self._caller.call(pid_of, task, 0, 0, label="__task_pid_nr_ns"), task))
            except CallRolledBack as error:
                reason = reason or f"of the task at {task:#x}: {error.reason}"
        return found, reason

    def tasks_in_memory(self, listed: Iterable[int]) -> list[int]:
        """See `GuestKernel`."""
        from hybridbridge_vol.bridge.objects.task_slab import tasks_in_slabs

        known = set(listed)
        pid_of, found = self.bridge.snapshot("__task_pid_nr_ns"), []
        for task in tasks_in_slabs(self.bridge, known):
            if task not in known:
                with contextlib.suppress(CallRolledBack):
                    found.append(self._caller.call(pid_of, task, _PIDTYPE_TGID, 0, label="__task_pid_nr_ns"))
        return found

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
        buffer = self._caller.put(b"", BUFFER_AT)
        size = self._caller.call(self.bridge.snapshot("sprint_symbol"), buffer, vaddr, label="sprint_symbol")
        return os.fsdecode(self._caller.get(BUFFER_AT, min(max(size, 0), 1024)))

    # --- the system ---------------------------------------------------------------------------------------

    def uname(self) -> Uname:
        """The names of the system, from the snapshot's own UTS namespace."""
        buffer = self._caller.put(b"", BUFFER_AT)
        self._checked(self._syscall("newuname", "", buffer), "uname")
        raw = self._answer("uname", 6 * 65)
        fields = [
            raw[65 * i : 65 * i + 65].split(b"\0")[0].decode("utf-8", "surrogateescape") for i in range(6)
        ]
        return Uname(*fields)

    def sysinfo(self) -> Sysinfo:
        """Memory, load and uptime."""
        buffer = self._caller.put(b"", BUFFER_AT)
        self._checked(self._syscall("sysinfo", "", buffer, side="twin"), "sysinfo")
        return parse_sysinfo(self._answer("sysinfo", 112))

    def syslog(self, action: int, size: int) -> bytes:
        """`syslog(2)`: the kernel's log buffer (action 3 reads it, 10 asks for its size)."""
        size = min(size, (USER_SIZE - BUFFER_AT))
        buffer = self._caller.put(b"", BUFFER_AT)
        count = self._checked(self._syscall("syslog", "", action, buffer, size, side="twin"), "syslog")
        return self._answer("syslog", min(count, size))

    def differences(self) -> Iterator[Difference]:
        """What of the kernel itself differs from the trusted one. StoreError or KernelFileError if that
        cannot be read."""
        from hybridbridge_vol.check.integrity import Integrity
        from hybridbridge_vol.check.symbol_names import listed_modules

        return Integrity(self.bridge, listed_modules(self)).differences()

    def rtnetlink(self, kind: int, body: bytes) -> bytes:
        """What the kernel's routing tables answer to a request for all of a kind (RTM_GET*, `body` behind its
        header): the messages, one after the other. EndlessFile as for `read_file`."""
        from hybridbridge_vol.bridge.objects.route_socket import open_route_socket
        from hybridbridge_vol.netlink.rtnetlink import dump_request, is_last

        if self._route_socket is None or self._route_socket[1] != self.generation:
            self._route_socket = open_route_socket(self._caller), self.generation
        fd, source = self._route_socket[0], f"rtnetlink {kind}"
        request = dump_request(kind, body)
        buffer = self._caller.put(request, BUFFER_AT)
        self._checked(self._syscall("sendto", source, fd, buffer, len(request), 0, 0, 0), source)
        if self.traces is not None:
            self.traces.forget(source)
        parts: list[bytes] = []
        end = self._deadline()
        while not parts or not is_last(parts[-1]):
            buffer = self._caller.put(b"", BUFFER_AT)
            size = self._checked(
                self._syscall("recvfrom", source, fd, buffer, READ_SIZES[-1], _MSG_DONTWAIT, 0, 0), source
            )
            parts.append(self._answer(source, min(size, READ_SIZES[-1]), more=True))
            if sum(map(len, parts)) > MAX_FILE_SIZE or time.monotonic() > end:
                raise EndlessFile(source, b"".join(parts))
        return b"".join(parts)

    def _clock(self, clock: int) -> float:
        buffer = self._caller.put(b"", BUFFER_AT)
        self._checked(self._syscall("clock_gettime", "", clock, buffer, side="twin"), "clock_gettime")
        seconds, nanoseconds = struct.unpack("<qq", self._answer("clock_gettime", 16))
        return float(seconds + nanoseconds / 1e9)

    def realtime(self) -> float:
        """Seconds since the epoch at the freeze, by the snapshot's own clock."""
        return self._clock(_CLOCK_REALTIME)

    def monotonic(self) -> float:
        """Seconds on CLOCK_MONOTONIC at the freeze: since boot, without time asleep."""
        return self._clock(_CLOCK_MONOTONIC)

    def running(self) -> list[Running | CallRolledBack]:
        """What each CPU was at. CPUs are those of /proc/stat; the numbers are the kernel's own function's."""
        return [self._running(cpu) for cpu in self._cpus()]

    def _cpus(self) -> list[int]:
        return [
            int(name[3:])
            for name in self.read_file("/proc/stat").decode().split()
            if re.fullmatch(r"cpu\d+", name)
        ]

    def _running(self, cpu: int) -> Running | CallRolledBack:
        label = f"getpid on CPU {cpu}"
        bridge = self.bridge
        try:
            task = current_of(bridge, cpu)
            numbers = bridge.snapshot("__task_pid_nr_ns")
            answers = [
                self._caller.call(numbers, task, kind, bridge.snapshot("init_pid_ns"), label=label)
                & 0x7FFFFFFF
                for kind in (_PIDTYPE_TGID, _PIDTYPE_PID)
            ]
        except CallRolledBack as error:
            return error
        except KeyError as error:
            return CallRolledBack(label, f"this kernel has no symbol {error}")
        except UnmappedVirtual as error:
            return CallRolledBack(label, f"the image does not hold {error.vaddr:#x}")
        return Running(cpu, *answers)

    def boottime(self) -> float:
        """Seconds from boot to the freeze."""
        return self._clock(_CLOCK_BOOTTIME)


def open_session(
    path: str | Path,
    store: Path | None = None,
    progress: Progress | None = None,
    mode: str = Mode.AUTO,
    ns_of: int | None = None,
) -> Session:
    """Open a memory image, find its kernel among the trusted ones and attach to it; `mode` is a
    `bridge.hybrid.Mode`.

    The session sees what the process `ns_of` (by default the first) sees from inside its namespaces:
    processes, network, names, users, control groups, and as /proc/self itself. Raises ImageError,
    KernelNotStored, AttachError, StoreError, BootError, and OptionError if there is no such process: all
    HybridBridgeError.
    """
    image = open_image(path, progress)
    try:
        return open_attached(image, Store(store), progress, mode, ns_of)
    except BaseException:
        image.close()
        raise


def open_attached(
    image: PhysicalImage,
    store: Store,
    progress: Progress | None,
    mode: str = Mode.AUTO,
    ns_of: int | None = None,
) -> Session:
    """As `open_session`, on an opened image, which stays the caller's to close on failure."""
    from hybridbridge_vol.snapshot.find_kernel import find_kernel

    kernels = store.kernels()
    try:
        hit = find_kernel(image, kernels)
    except AttachError as error:
        raise AttachError(f"{image.path}: {error}") from None
    if hit is None:
        from hybridbridge_vol.guest.no_kernel import explain_unknown

        raise explain_unknown(image, store, progress)
    index, found = hit
    bridge = attach(image, kernels[index], found, progress)
    try:
        return Session(bridge, Mode(mode), ns_of, progress)
    except BaseException:
        bridge.close()
        raise
