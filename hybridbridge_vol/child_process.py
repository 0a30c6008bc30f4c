"""How this program starts itself again, and what its children do first."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def own_module(name: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment that run a module of this program with the same Python. Nothing is imported
    from the working folder (`-P`), which may be one with evidence."""
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return [sys.executable, "-P", "-m", name, *arguments], os.environ | {"PYTHONPATH": path}


def fork() -> int:
    """fork(2), as os.fork. The child does not search what it inherits for garbage. An object of its parent's
    may have threads, which the child lacks: to finalize it is to wait for them for ever, or to crash, as
    DuckDB's connections do."""
    pid = os.fork()
    if not pid:
        gc.freeze()
    return pid


def die_with(parent: int) -> None:
    """In a child: be killed when the process `parent` that forked it ends, however that ends (prctl(2),
    PR_SET_PDEATHSIG). It must have been forked by a thread that lives as long as its process: the signal
    comes when that thread ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def limit(kind: int, most: int) -> None:
    """Limit a resource (RLIMIT_*) of this process for good: to `most`, or what it is limited to already."""
    _soft, hard = resource.getrlimit(kind)
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (allowed, allowed))
