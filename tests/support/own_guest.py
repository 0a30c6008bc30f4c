"""Guests whose PID 1 is a program of a test's own, which loads modules, does its work and says so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from made_once import made_once

from hybridbridge_vol.kernel_file.packages import read_vmlinuz
from samples import cache_key, qemu
from samples.compiler import compile_static, sources
from samples.initramfs import Archive
from samples.kernels import fetch, modules_package
from samples.modules import load_order

RAM = 256 << 20
SECONDS = 300.0
"""The guest is ended after so long."""
_COMMAND_LINE = "console=ttyS0 rdinit=/init no_timer_check panic=0"
_READY = "hb: ready"
_POLL_SECONDS = 0.1


def image_of(kind: str, kernel: str, program: Path, modules: Sequence[str]) -> Path:
    """The guest's memory, made only once; `kernel` as `samples.kernels.fetch` takes it. The program finds the
    modules, and those that they need, in /m, and says `hb: ready` on the console."""
    package = fetch(kernel)
    code = [path.read_bytes() for path in sources(program)]
    key = cache_key.digest(package.name, code, tuple(modules), _COMMAND_LINE)
    folder = made_once(f"{kernel}-{kind}-{key[:12]}", partial(_make, package, program, modules))
    return folder / "dump.raw"


def _make(package: Path, program: Path, modules: Sequence[str], folder: Path) -> None:
    (folder / "vmlinuz").write_bytes(read_vmlinuz(package))
    (folder / "initrd").write_bytes(_initramfs(package, program, modules))
    machine = qemu.Machine(RAM, 1)
    with qemu.running(folder, machine, "vmlinuz", "initrd", _COMMAND_LINE, SECONDS) as guest:
        guest.command("qmp_capabilities")
        console, deadline = folder / "console", time.monotonic() + SECONDS
        while _READY not in (console.read_text(errors="replace") if console.exists() else ""):
            if time.monotonic() > deadline:
                raise qemu.GuestError(f"no {_READY!r} on the console of {folder}")
            time.sleep(_POLL_SECONDS)
        guest.command("stop")
        qemu.save_raw(folder / "ram", RAM, folder / "dump.raw")
    for name in ("ram", "shared", "initrd", "vmlinuz", "qemu.log"):
        (folder / name).unlink(missing_ok=True)


def _initramfs(package: Path, program: Path, modules: Sequence[str]) -> bytes:
    archive = Archive()
    archive.add("init", 0o100755, compile_static(program))
    archive.add("dev/console", 0o20600, device=(5, 1))
    found = load_order(modules_package(package), modules)
    for module in found:
        archive.add(f"m/{module.name}.ko", 0o100644, module.data)
    archive.add("m/order", 0o100644, "".join(f"{module.name}\n" for module in found).encode())
    return archive.finished()
