"""What every forked child of this program does first."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def die_with(parent: int) -> None:
    """In a child: be killed when the process `parent` that forked it ends, however that ends (prctl(2),
    PR_SET_PDEATHSIG). It must have been forked by a thread that lives as long as its process: the signal
    comes when that thread ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)
