"""Compile the native part, with the C compiler at hand or with the one that the `ziglang` package brings.

The result is a plain shared library, loaded by ctypes: it knows nothing of Python, so one build serves every
version.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path("hybridbridge_vol/bridge/taint/native/taint.c")
LIBRARY = Path("hybridbridge_vol/bridge/taint/_taint.so")
FLAGS = ("-O2", "-fPIC", "-shared", "-Wall", "-Wextra")


def system_compiler() -> list[str] | None:
    """The compiler that `CC` names, or the system's own; None if there is none."""
    named = shlex.split(os.environ.get("CC", ""))
    for command in (named, ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    return None


def compiler() -> list[str]:
    """The system's compiler, else zig's; SystemExit with the way out if there is neither."""
    found = system_compiler()
    if found:
        return found
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise SystemExit("no C compiler: install gcc, or 'pip install ziglang'")


def build(root: Path, target: Path) -> None:
    """Compile the sources below `root` to the shared library `target`, which appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    subprocess.run([*compiler(), *FLAGS, "-o", str(temporary), str(root / SOURCE)], check=True)
    temporary.replace(target)


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[1]
    build(here, here / LIBRARY)
