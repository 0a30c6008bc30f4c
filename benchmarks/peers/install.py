"""Getting the other tools, and what they ask for, into a folder outside of the tree. Nothing is installed on
the machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybridbridge_vol.errors import HybridBridgeError
from samples.apt import download, own_suite
from samples.series import suites

SYMBOLS_ROOM = 4 << 30
"""Bytes that must be free for a kernel's debug symbols, packed and not."""
_CRASH = ("crash", "liblzo2-2", "libsnappy1v5", "libncursesw6")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
_STEP_SECONDS = 1800


@dataclass
class Peers:
    """What could be had: the interpreter with drgn and Volatility, `vmlinux` with debug symbols, crash and
    the folders of its libraries, a folder with the symbol table for Volatility. `missing` says of the rest
    why, by name."""

    python: Path | None = None
    vmlinux: Path | None = None
    crash: Path | None = None
    crash_libraries: str = ""
    isf: Path | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def vol(self) -> Path | None:
        """Volatility's program."""
        return None if self.python is None else self.python.with_name("vol")


def install(folder: Path, kernel_package: Path, stored_kernel: str, store: Path) -> Peers:
    """Get all that can be had for the kernel of a package, which is trusted as `stored_kernel`."""
    folder.mkdir(parents=True, exist_ok=True)
    peers = Peers()

    def attempt(name: str, step: Callable[[], Path]) -> Path | None:
        try:
            return step()
        except (OSError, subprocess.SubprocessError, HybridBridgeError) as error:
            peers.missing[name] = " ".join(str(error).split())
            return None

    peers.python = attempt("drgn", lambda: _environment(folder / "environment"))
    peers.vmlinux = attempt("debug symbols", lambda: debug_symbols(folder, kernel_package))
    peers.isf = attempt("isf", lambda: _isf(folder / "symbols", stored_kernel, store))
    peers.crash = attempt("crash", lambda: _crash(folder / "crash"))
    peers.crash_libraries = ":".join(str(folder / "crash" / place) for place in _LIBRARIES)
    return peers


def _run(line: Sequence[str | Path]) -> None:
    subprocess.run([str(word) for word in line], check=True, timeout=_STEP_SECONDS, stdout=subprocess.DEVNULL)


def _environment(folder: Path) -> Path:
    """An environment of its own with drgn and Volatility; its interpreter."""
    python = folder / "bin" / "python"
    if not (folder / "bin" / "drgn").exists():
        _run([sys.executable, "-m", "venv", folder])
        _run([python, "-m", "pip", "install", "--quiet", "drgn", "volatility3"])
    return python


def debug_symbols(folder: Path, kernel_package: Path) -> Path:
    """The `vmlinux` of Debian's package of debug symbols for a kernel. OSError if there is no room for it, or
    only one of another build; AptError if there is none."""
    name, version = kernel_package.name.split("_")[:2]
    release = name.removeprefix("linux-image-")
    found = folder / "usr/lib/debug/boot" / f"vmlinux-{release}"
    if found.exists():
        return found
    if shutil.disk_usage(folder).free < SYMBOLS_ROOM:
        raise OSError(f"less than {SYMBOLS_ROOM >> 30} GiB are free for the debug symbols")
    (package,) = download([f"{name}-dbg"], suites(".".join(release.split(".")[:2])))
    if package.name.split("_")[1] != version:
        raise OSError(f"{package.name} is not of the build {version}")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as archive:
        line = ["tar", "--extract", "--directory", str(folder), "./usr/lib/debug/boot"]
        subprocess.run(line, stdin=archive.stdout, check=True, timeout=_STEP_SECONDS)
    return found


def _isf(folder: Path, stored_kernel: str, store: Path) -> Path:
    """A folder with our own symbol table."""
    folder.mkdir(exist_ok=True)
    table = folder / f"{stored_kernel}.json.xz"
    if not table.exists():
        hb = [sys.executable, "-m", "hybridbridge_vol"]
        _run([*hb, "isf", stored_kernel, "--store", store, "--out", table])
    return folder


def _crash(folder: Path) -> Path:
    """Debian's crash and its libraries, unpacked."""
    program = folder / "usr/bin/crash"
    if not program.exists():
        for package in download(_CRASH, (own_suite(),)):
            _run(["dpkg-deb", "--extract", package, folder])
    return program
