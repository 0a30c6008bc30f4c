"""The machine the tests run on, as a guest kernel: what procps says of it is the truth the tools are held
to."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Self

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.netlink.rtnetlink import dump_request, is_last
from hybridbridge_vol.toolkit.guest_kernel import Difference, Registers, Running, Stat, Sysinfo, Uname


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


class LiveKernel:
    """A `GuestKernel` that makes real system calls; `files` takes the place of what the kernel would say of a
    path, or of what one call would ("readlink /proc/1/exe").

    A value of `files` may be an exception: that call fails with it.
    """

    def __init__(self, files: dict[str, bytes | Exception] | None = None) -> None:
        self.files = files or {}
        self.calls: list[tuple[str, str]] = []
        self.opened: tuple[Any, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def _replaced(self, call: str, path: str) -> Any:
        self.calls.append((call, path))
        content = self.files.get(f"{call} {path}", self.files.get(path))
        if isinstance(content, Exception):
            raise content
        return content

    def expect(self, _questions: object) -> None: ...

    def each_part(self, parts: Any, answer: Any) -> Any:
        return map(answer, parts)

    def read_file(self, path: str) -> bytes:
        content = self._replaced("read", path)
        if content is not None:
            return content
        with open(path, "rb") as file:
            return file.read()

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        content = self._replaced("read_at", path)
        if content is not None:
            return content[offset : offset + size]
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), min(size, 1 << 20), offset)

    def in_image(self, paddr: int, size: int) -> bool:
        return True

    def registers(self, tid: int) -> Registers | None:
        return None

    def task_list(self) -> tuple[list[tuple[int, int]], str]:
        return [], "not to be had from outside of the kernel"

    def tasks_in_memory(self, listed: Iterable[int]) -> list[int]:
        return []

    def module_pages(self) -> Iterator[int]:
        return iter(())

    def symbol(self, vaddr: int) -> str:
        return f"{vaddr:#x}"

    def progress(self, fraction: float, text: str) -> None: ...

    def listdir(self, path: str) -> list[str]:
        self._replaced("listdir", path)
        return os.listdir(path)

    def readlink(self, path: str) -> str:
        self._replaced("readlink", path)
        return os.readlink(path)

    def stat(self, path: str, follow: bool = False) -> Stat:
        self._replaced("stat", path)
        seen = os.stat(path) if follow else os.lstat(path)
        return Stat(
            mode=seen.st_mode,
            ino=seen.st_ino,
            dev=seen.st_dev,
            nlink=seen.st_nlink,
            uid=seen.st_uid,
            gid=seen.st_gid,
            size=seen.st_size,
            mtime=seen.st_mtime,
            rdev=seen.st_rdev,
        )

    def uname(self) -> Uname:
        with open("/proc/sys/kernel/domainname") as file:
            return Uname(*os.uname(), domainname=file.read().strip())

    def sysinfo(self) -> Sysinfo:
        seen = _SysinfoStruct()
        if ctypes.CDLL(None, use_errno=True).sysinfo(ctypes.byref(seen)):
            raise OSError(ctypes.get_errno(), "sysinfo")
        values = {name: getattr(seen, name) for name in Sysinfo._fields}
        return Sysinfo(**values | {"loads": tuple(seen.loads)})

    def running(self) -> list[Running | CallRolledBack]:
        """The one CPU that this process knows of: its own."""
        return [Running(ctypes.CDLL(None).sched_getcpu(), os.getpid(), threading.get_native_id())]

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    def syslog(self, action: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        length = ctypes.CDLL(None, use_errno=True).klogctl(action, buffer, size)
        if length < 0:
            raise OSError(ctypes.get_errno(), "syslog")
        return buffer.raw[:length]

    def differences(self) -> list[Difference]:
        return [
            Difference(
                "missing", 0xFFFFFFFF81000000, None, "_text", None, "nobody may read this machine's kernel"
            )
        ]

    def rtnetlink(self, kind: int, body: bytes) -> bytes:
        content = self._replaced("rtnetlink", str(kind))
        if content is not None:
            return bytes(content)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
            link.send(dump_request(kind, body))
            parts: list[bytes] = []
            while not parts or not is_last(parts[-1]):
                parts.append(link.recv(1 << 20))
            return b"".join(parts)

    def realtime(self) -> float:
        return time.time()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


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
