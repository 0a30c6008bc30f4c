"""A guest whose kernel encrypts TLS for a process (kernel TLS), and the keys that the process gave it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from made_once import made_once

from hybridbridge_vol.kernel_file.packages import read_vmlinuz
from samples import cache_key, qemu
from samples.compiler import compile_static
from samples.initramfs import Archive
from samples.kernels import fetch, modules_package
from samples.modules import load_order

PROGRAM = Path(__file__).parent / "guest" / "tls.c"
MODULES = (
    "tls",
    "aes_generic",
    "ctr",
    "ghash_generic",
    "gcm",
    "chacha",
    "chacha_generic",
    "poly1305_generic",
    "chacha20poly1305",
)
AES_GCM_128, AES_GCM_256, CHACHA20_POLY1305 = 51, 52, 54
RAM = 256 << 20
SECONDS = 300.0
"""The guest is ended after so long."""
_COMMAND_LINE = "console=ttyS0 rdinit=/init no_timer_check panic=0"
_READY = "hb: ready"
_POLL_SECONDS = 0.1


def given(cipher: int, first: int, size: int) -> str:
    """Some of what the process has given for a cipher, in hexadecimal: bytes of its structure from `first`
    on (guest/tls.c, `give_keys`)."""
    return bytes(cipher + at & 0xFF for at in range(first, first + size)).hex()


def image_of(kernel: str) -> Path:
    """The guest's memory, made only once; `kernel` as `samples.kernels.fetch` takes it."""
    package = fetch(kernel)
    key = cache_key.digest(package.name, PROGRAM.read_bytes(), MODULES, _COMMAND_LINE)
    folder = made_once(f"{kernel}-tls-{key[:12]}", partial(_make, package))
    return folder / "dump.raw"


def _make(package: Path, folder: Path) -> None:
    (folder / "vmlinuz").write_bytes(read_vmlinuz(package))
    (folder / "initrd").write_bytes(_initramfs(package))
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


def _initramfs(package: Path) -> bytes:
    archive = Archive()
    archive.add("init", 0o100755, compile_static(PROGRAM))
    archive.add("dev/console", 0o20600, device=(5, 1))
    modules = load_order(modules_package(package), MODULES)
    for module in modules:
        archive.add(f"m/{module.name}.ko", 0o100644, module.data)
    archive.add("m/order", 0o100644, "".join(f"{module.name}\n" for module in modules).encode())
    return archive.finished()
