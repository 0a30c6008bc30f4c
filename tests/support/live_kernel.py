"""The machine the tests run on, as a guest kernel: what procps says of it is the truth the tools are held
to."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar

from live_devices import LiveDevices
from live_files import Answering, Answers, LiveFiles
from live_sockets import LiveSockets

from hybridbridge_vol.allowance import Allowance
from hybridbridge_vol.bridge.objects.inode_cache import BrokenList, CachedInode
from hybridbridge_vol.errors import AttachError, CallRolledBack
from hybridbridge_vol.guest.values import (
    BpfEvent,
    BpfInfo,
    QueuedMessage,
    QueueEnd,
    Registers,
    Running,
    Sysinfo,
    Target,
    TaskList,
    Uname,
)
from hybridbridge_vol.netlink.messages import dump_request, is_last
from hybridbridge_vol.netlink.requests import NETLINK_AUDIT, NetlinkRequest
from hybridbridge_vol.snapshot.kernel_layout import MODULES_END

P = TypeVar("P")
T = TypeVar("T")


class _SysinfoStruct(ctypes.Structure):
    """struct sysinfo (include/uapi/linux/sysinfo.h), 64-bit."""

    _fields_ = [
        ("uptime", ctypes.c_long),
        ("loads", ctypes.c_ulong * 3),
        *((name, ctypes.c_ulong) for name in Sysinfo._fields[2:8]),
        ("procs", ctypes.c_ushort),
        ("pad", ctypes.c_ushort),
        ("totalhigh", ctypes.c_ulong),
        ("freehigh", ctypes.c_ulong),
        ("mem_unit", ctypes.c_uint),
    ]


class LiveSystem:
    """This machine's uname, sysinfo and syslog."""

    def uname(self) -> Uname:
        with open("/proc/sys/kernel/domainname") as file:
            return Uname(*os.uname(), domainname=file.read().strip())

    def sysinfo(self) -> Sysinfo:
        seen = _SysinfoStruct()
        if ctypes.CDLL(None, use_errno=True).sysinfo(ctypes.byref(seen)):
            raise OSError(ctypes.get_errno(), "sysinfo")
        return Sysinfo(
            **{name: getattr(seen, name) for name in Sysinfo._fields} | {"loads": tuple(seen.loads)}
        )

    def syslog(self, action: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        length = ctypes.CDLL(None, use_errno=True).klogctl(action, buffer, size)
        if length < 0:
            raise OSError(ctypes.get_errno(), "syslog")
        return buffer.raw[:length]


class LiveClocks:
    """This machine's clocks."""

    def realtime(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class LiveTasks:
    """What only the kernel itself can search for."""

    def listed(self) -> TaskList:
        return TaskList([], "not to be had from outside of the kernel")

    def in_memory(self, listed_vaddrs: Iterable[int]) -> list[int]:
        return []

    def groups(self, pids: Iterable[int]) -> dict[int, int]:
        return {}


class LiveCpus:
    """The one CPU that this process knows of: its own."""

    def running(self) -> list[Running | CallRolledBack]:
        return [Running(ctypes.CDLL(None).sched_getcpu(), os.getpid(), threading.get_native_id())]


class LiveThreads:
    """No registers: nobody may stop this machine's threads."""

    def registers(self, tid: int) -> Registers | None:
        return None


class LiveAddresses:
    """No address of this machine's kernel may be looked at. `has_modules` is what is said of it."""

    def in_image(self, paddr: int, size: int) -> bool:
        return True

    has_modules = True
    modules_area = range(0xFFFF_FFFF_C000_0000, MODULES_END)

    def module_pages(self) -> Iterator[int]:
        return iter(())

    def symbol(self, vaddr: int) -> str:
        return f"{vaddr:#x}"

    def expect(self, vaddrs: Iterable[int]) -> None:
        pass

    def modules_in_memory(self) -> list[str]:
        return []

    def vmalloc_areas(self) -> list[tuple[int, int, str]]:
        return []

    def interrupt(self, number: int) -> int:
        return 0


class LiveRoutes(Answering):
    """This machine's routing tables; `answers` by "rtnetlink KIND"."""

    def dump(self, kind: int, body: bytes) -> bytes:
        content = self.replaced("rtnetlink", str(kind))
        if content is not None:
            return bytes(content)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
            link.send(dump_request(kind, body))
            parts: list[bytes] = []
            while not parts or not is_last(parts[-1]):
                parts.append(link.recv(1 << 20))
            return b"".join(parts)


class LiveNetlink(Answering):
    """Any netlink protocol of this machine; `answers` by "netlink SOURCE"."""

    def dump(self, request: NetlinkRequest, net_of: int | None = None) -> bytes:
        content = self.replaced("netlink", request.source)
        if content is not None:
            return bytes(content)
        if request.protocol == NETLINK_AUDIT:  # the kernel answers without an end to wait for
            raise OSError(errno.EPROTONOSUPPORT, "this machine's audit is not its tests' affair")
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, request.protocol) as link:
            link.send(dump_request(request.kind, request.body))
            parts: list[bytes] = []
            while not parts or not is_last(parts[-1]):
                parts.append(link.recv(1 << 20))
            return b"".join(parts)


class LivePacketTables:
    """This machine's tables are not its tests' affair."""

    def option(self, family: int, name: int, content: bytes, size: int, net_of: int | None = None) -> bytes:
        raise OSError(errno.ENOPROTOOPT, "not asked of this machine")


class LiveBpf:
    """This machine's programs are not its tests' affair."""

    def ids(self, kind: str) -> list[int]:
        raise OSError(errno.EPERM, "not asked of this machine")

    def info(self, kind: str, number: int) -> BpfInfo:
        raise OSError(errno.EPERM, "not asked of this machine")

    def elements(self, number: int) -> Iterator[tuple[bytes, bytes | OSError]]:
        raise OSError(errno.EPERM, "not asked of this machine")

    def event(self, pid: int, fd: int) -> BpfEvent:
        raise OSError(errno.ENOENT, "not asked of this machine")

    def of_cgroup(self, path: str, attach_types: Iterable[int]) -> list[tuple[int, int]]:
        raise OSError(errno.EPERM, "not asked of this machine")

    def pins(self, paths: Iterable[str], objects: Iterable[tuple[str, int]]) -> dict[str, tuple[str, int]]:
        return {}


class OneWorker:
    """Answers one part after the other, in this process."""

    def map(
        self, answer: Callable[[P], T], parts: Sequence[P], most: int | None = None, least: int = 0
    ) -> Iterator[T]:
        return map(answer, parts)


class LiveInodes:
    """A running kernel does not list its inodes."""

    def cached(self) -> tuple[list[CachedInode], list[BrokenList]]:
        return [], []

    def name(self, inode: CachedInode) -> str:
        raise AssertionError(inode)


class LiveSecrets:
    """This machine's keys, disks and queues, which are nobody's business: every question is refused."""

    def as_user(self, uid: int) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def describe(self, serial: int) -> tuple[str, str]:
        raise self._refused()

    def members(self, serial: int) -> list[int]:
        raise self._refused()

    def payload(self, serial: int, kind: str) -> bytes:
        raise self._refused()

    def targets(self) -> Iterator[Target]:
        raise self._refused()

    def expect(self, ends: Sequence[QueueEnd]) -> None: ...

    def of_descriptor(self, pid: int, fd: int, is_socket: bool) -> list[QueuedMessage]:
        raise self._refused()

    def system_v(self, identifier: int, count: int) -> list[QueuedMessage]:
        raise self._refused()

    def posix(self, path: str) -> list[QueuedMessage]:
        raise self._refused()

    @staticmethod
    def _refused() -> OSError:
        return OSError(errno.EACCES, os.strerror(errno.EACCES), "this machine")


class LiveKernel:
    """A `GuestKernel` that makes real system calls, but for those in `answers`."""

    def __init__(self, answers: Answers | None = None) -> None:
        self.files = LiveFiles(answers or {})
        self.inodes = LiveInodes()
        self.system = LiveSystem()
        self.clocks = LiveClocks()
        self.tasks = LiveTasks()
        self.cpus = LiveCpus()
        self.threads = LiveThreads()
        self.addresses = LiveAddresses()
        self.devices = LiveDevices()
        self.routes = LiveRoutes(answers or {})
        self.sockets = LiveSockets(answers or {})
        self.netlink = LiveNetlink(answers or {})
        self.packet_tables = LivePacketTables()
        self.bpf = LiveBpf()
        self.keyrings = self.device_mapper = self.queues = LiveSecrets()
        self.workers = OneWorker()
        self.allowance = Allowance()
        self.opened: tuple[Any, Any] | None = None

    @property
    def answer_labels(self) -> Any:
        raise AttachError("this machine's answers have no labels")

    @property
    def bridge(self) -> Any:
        raise AttachError("no trusted kernel is attached to this machine")

    def progress(self, fraction: float, text: str) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def module_of(kernel: LiveKernel) -> Any:
    """A stand-in for the engine's `guest.session`, whose image is this machine."""
    from types import ModuleType

    def open_session(path: Any, store: Any = None, **_: Any) -> LiveKernel:
        kernel.opened = (path, store)
        return kernel

    module: Any = ModuleType("hybridbridge_vol.guest.session")
    module.open_session = open_session
    return module


def install(kernel: LiveKernel | None = None) -> None:
    """Let `hb` and the plugins ask this machine, whatever image they are given."""
    import sys

    sys.modules["hybridbridge_vol.guest.session"] = module_of(kernel or LiveKernel())
