"""Faults while something is written: a writer that is killed between any two of its lines, or that the kernel
lets write so many bytes and no more, or nothing at all."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from hybridbridge_vol.native import landlock

MOST_LINES = 5000
"""A writer that runs more lines of the modules in question does not end."""


def killed_at_each_line(write: Callable[[], object], modules: tuple[str, ...]) -> Iterator[int]:
    """Run `write` again and again in a child, which is killed (SIGKILL) before its first line in one of these
    modules, its second ... Yields the number after each; ends when one came to its end."""
    for number in range(MOST_LINES):
        if _in_child(lambda number=number: _run_until(write, modules, number)) == 0:  # type: ignore[misc]
            return
        yield number
    raise AssertionError(f"more than {MOST_LINES} lines")


def _run_until(write: Callable[[], object], modules: tuple[str, ...], number: int) -> None:
    left = number

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if frame.f_globals.get("__name__") not in modules:
            return None
        if event in ("line", "return"):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

    sys.settrace(trace)
    write()


def with_a_full_disk(write: Callable[[], object], size: int) -> int:
    """Run `write` in a child that can make no file longer than `size` bytes: see `_in_child`."""

    def run() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # write(2) fails with EFBIG then, as with ENOSPC
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        write()

    return _in_child(run)


def read_only(write: Callable[[], object]) -> int:
    """The same in a child that can write no file at all; root, too."""

    def run() -> None:
        landlock.restrict([("/", landlock.READ_FILE | landlock.READ_FOLDER)])
        write()

    return _in_child(run)


def _in_child(run: Callable[[], object]) -> int:
    """0: it came to its end; 1: it raised an error of this program's; a negative signal; 2: another error."""
    from hybridbridge_vol.errors import HybridBridgeError

    pid = os.fork()
    if not pid:
        status = 2
        try:
            run()
            status = 0
        except HybridBridgeError:
            status = 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
