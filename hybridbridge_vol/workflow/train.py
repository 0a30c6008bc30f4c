"""Fill the memo: run every tool on an image, so that FAST-BRIDGE meets no unproven code on the next one."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.statistics import Statistics
from hybridbridge_vol.errors import CallRolledBack, HybridBridgeError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.toolkit.tool import Options, Tool
from hybridbridge_vol.units import Progress

Step = tuple[str, Callable[[], object]]
"""A piece of work and its name."""

MAX_PROCESSES = 24
"""User processes of which every file is read; more of them add hardly any code."""
KERNEL_THREADS = 3
"""Kernel threads of which every file is read; they are all alike."""

SKIPPED = frozenset(
    ("kcore", "kmsg", "kpagecount", "kpageflags", "kpagecgroup", "mem", "pagemap", "clear_refs")
)
"""Files of /proc that are not read: windows on memory, and files whose reading waits or acts."""

_DIRECTORIES = (
    "/proc",
    "/proc/net",
    "/proc/sys/kernel",
    "/proc/sysvipc",
    "/proc/tty",
    "/proc/fs",
    "/proc/1/fdinfo",
    "/proc/1/fd",
    "/proc/1/task",
    "/proc/1/attr",
    "/proc/1/net",
    "/sys/kernel",
    "/sys/module",
)


def train(
    image: str | Path,
    store: Path | None = None,
    progress: Progress | None = None,
    kernel_at: int | None = None,
) -> Statistics:
    """Run all tools on an image and read all small files of its /proc; what is proven goes to its kernel's
    memo. `kernel_at`: the physical address of one of several kernels.

    Raises what `open_session` raises.
    """
    with open_session(image, store, progress, kernel_at=kernel_at) as session:
        run_everything(session, progress)
        return session.statistics


def run_everything(session: Session, progress: Progress | None = None) -> None:
    """Run all tools with each of their flags, then read all files of /proc that hold text. What cannot be
    read is skipped."""
    _run([*_plain_tools(session), *_tools_with_options(session), *_files(session)], progress)


def run_tools(session: Session, progress: Progress | None = None) -> None:
    """Run all tools, each once, without options: that proves most of the code that any question needs, in a
    fifth of the time."""
    _run(list(_plain_tools(session)), progress)


def _run(work: list[Step], progress: Progress | None) -> None:
    for number, (name, step) in enumerate(work):
        if progress:
            progress(number / len(work), f"training: {name}")
        with suppress(OSError, CallRolledBack, HybridBridgeError):
            step()


def _trainable() -> Iterator[Tool]:
    for name in tools.NAMES:
        tool = tools.load(name)
        if tool.runs_kernel and not any(option.positional for option in tool.options):
            yield tool


def _plain_tools(session: Session) -> Iterator[Step]:
    for tool in _trainable():
        yield (
            tool.name,
            partial(_rows, tool, session, tool.defaults()),
        )


def _tools_with_options(session: Session) -> Iterator[Step]:
    """Each tool with each of its flags."""
    for tool in _trainable():
        default = tool.defaults()
        for option in tool.options:
            if option.type is bool:
                yield tool.name, partial(_rows, tool, session, default | {option.name: True})


def _files(session: Session) -> Iterator[Step]:
    for folder in _DIRECTORIES:
        # twice: a second look-up also runs the code that revalidates a dentry
        yield folder, partial(_read_all, session, folder)
        yield folder, partial(_read_all, session, folder)
    for folder in _processes(session):
        yield folder, partial(_read_all, session, folder)


def _rows(tool: Tool, session: Session, options: Options) -> None:
    for _row in limited_rows(tool, session, options):
        pass


def _processes(session: Session) -> list[str]:
    """The directories of the processes to read."""
    with suppress(OSError, CallRolledBack):
        pids = [name for name in session.files.listdir("/proc") if name.isdecimal()]
        users = [pid for pid in pids if _is_user_process(session, pid)]
        threads = [pid for pid in pids if pid not in set(users)]
        return [f"/proc/{pid}" for pid in users[-MAX_PROCESSES:] + threads[:KERNEL_THREADS]]
    return []


def _is_user_process(kernel: GuestKernel, pid: str) -> bool:
    with suppress(OSError, CallRolledBack):
        return bool(kernel.files.read(f"/proc/{pid}/cmdline"))
    return False


def _read_all(session: Session, folder: str) -> None:
    session.files.stat(folder)
    for name in session.files.listdir(folder):
        path = f"{folder}/{name}"
        if name in SKIPPED:
            continue
        with suppress(OSError, CallRolledBack):
            kind = stat.S_IFMT(session.files.stat(path).mode)
            if kind == stat.S_IFLNK:
                session.files.readlink(path)
            elif kind == stat.S_IFREG:
                session.files.read(path)
