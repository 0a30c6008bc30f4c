"""Links the modules of a kernel that is being added, so that its first `check` need not, in a process of its
own: the work is Python's throughout, and a thread would hold back the boot beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hybridbridge_vol.check.modules.module_store import link_all
from hybridbridge_vol.child_process import die_with, own_module

_LOOK_S = 0.05


def link_beside(folder: Path, is_cancelled: Callable[[], bool]) -> None:
    """Link the modules kept in a folder and wait for it, unless that is cancelled. A failure costs the time
    of the first comparison, nothing else."""
    command, environment = own_module(__name__, str(folder), str(os.getpid()))
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet) as child:
        while True:
            if is_cancelled():
                child.kill()
            try:
                child.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                continue
            return


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    link_all(Path(sys.argv[1]))
