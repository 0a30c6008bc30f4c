"""Running a guest in QEMU until it freezes itself, and saving its memory."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BINARY = "qemu-system-x86_64"
SHARED_SIZE = 128 << 20
PCI_HOLE_START, PCI_HOLE_END = 3 << 30, 4 << 30
"""QEMU's pc machine: memory beyond 3 GiB continues at 4 GiB (hw/i386/pc_piix.c, max-ram-below-4g)."""


class GuestError(Exception):
    """A guest did not come to its freeze; the message ends with its last console lines."""


def find_qemu() -> str:
    """The emulator's path; GuestError tells how to get it."""
    path = shutil.which(BINARY)
    if path is None:
        raise GuestError(f"{BINARY} is not installed: apt-get install --no-install-recommends qemu-system-x86")
    return path


class Guest:
    """One QEMU process, frozen by the guest itself (a write to the pvpanic device)."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process
        self._stream: Any = None

    def wait_for_freeze(self, seconds: float, tell: Callable[[str], None]) -> None:
        """Return when the machine has stopped itself; GuestError after `seconds` or if it ends."""
        deadline = time.monotonic() + seconds
        self._connect(deadline)
        while True:
            if time.monotonic() > deadline:
                raise GuestError(f"the guest did not freeze within {seconds:.0f} s; {self.console_tail()}")
            event = self._receive(deadline)
            if event is None:
                raise GuestError(f"QEMU ended early; {self.console_tail()}")
            if event.get("event") == "GUEST_PANICKED":
                if "Kernel panic" in self.console_tail():
                    raise GuestError(f"the guest's kernel panicked; {self.console_tail()}")
                tell("frozen")
                return

    def _connect(self, deadline: float) -> None:
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.folder / "qmp"))
                break
            except OSError:
                connection.close()
                if time.monotonic() > deadline or self.process.poll() is not None:
                    errors = (self.folder / "qemu.log").read_text(errors="replace").strip()
                    raise GuestError(f"QEMU did not start: {errors[-500:]}") from None
                time.sleep(0.05)
        self._stream = connection.makefile("rw")
        connection.settimeout(max(1.0, deadline - time.monotonic()))
        connection.close()  # the stream keeps the socket
        self._stream.readline()
        self.command("qmp_capabilities")

    def _receive(self, _deadline: float) -> dict[str, Any] | None:
        try:
            line = self._stream.readline()
        except (TimeoutError, OSError):
            return {}
        return json.loads(line) if line else None

    def command(self, name: str, **arguments: object) -> Any:
        """One QMP command; its answer. GuestError if QEMU refuses."""
        self._stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._stream.flush()
        while True:
            answer = self._receive(0)
            if answer is None or "error" in answer:
                raise GuestError(f"QEMU refused {name}: {(answer or {}).get('error', 'it ended')}")
            if "return" in answer:
                return answer["return"]

    def console_tail(self) -> str:
        """The last lines of the guest's console, for messages."""
        with contextlib.suppress(OSError):
            lines = (self.folder / "console").read_text(errors="replace").splitlines()
            return "console: " + " | ".join(lines[-8:])
        return "no console"


@contextlib.contextmanager
def running(
    folder: Path, kernel: Path, initrd: Path, command_line: str, ram: int, cpus: int, accel: str
) -> Iterator[Guest]:
    """A guest whose files are in `folder`; it is ended when the block ends, however that happens.

    `ram` in bytes. Guest memory is the file `ram`; what the observer writes goes to the file `shared`.
    """
    command = [
        find_qemu(), "-nodefaults", "-no-reboot", "-display", "none", "-machine", f"pc,accel={accel},memory-backend=ram",
        "-cpu", "max,la57=off" if accel == "tcg" else "host", "-smp", str(cpus), "-m", str(ram >> 20),
        "-object", f"memory-backend-file,id=ram,size={ram},mem-path={folder / 'ram'},share=on",
        "-object", f"memory-backend-file,id=shared,size={SHARED_SIZE},mem-path={folder / 'shared'},share=on",
        "-device", "ivshmem-plain,memdev=shared", "-device", "pvpanic-pci", "-action", "panic=pause",
        "-kernel", str(kernel), "-initrd", str(initrd), "-append", command_line,
        "-serial", f"file:{folder / 'console'}", "-qmp", f"unix:{folder / 'qmp'},server=on,wait=off",
        "-nic", "user,model=e1000,restrict=on",
    ]  # fmt: skip
    with open(folder / "qemu.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield Guest(folder, process)
    finally:
        process.kill()
        process.wait()


def shared_memory(folder: Path) -> bytes:
    """What the observer wrote."""
    with open(folder / "shared", "rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        size = int.from_bytes(view[:8], "little")
        return bytes(view[: min(size + 8, len(view))])


def physical_ranges(ram: int) -> list[tuple[int, int, int]]:
    """`(paddr, size, offset in the RAM file)` of QEMU's pc machine with `ram` bytes."""
    if ram <= PCI_HOLE_START + (512 << 20):  # up to 3.5 GiB stay in one piece
        return [(0, ram, 0)]
    return [(0, PCI_HOLE_START, 0), (PCI_HOLE_END, ram - PCI_HOLE_START, PCI_HOLE_START)]


def save_raw(ram_file: Path, ram: int, target: Path) -> None:
    """Physical memory as a raw image: file offset = physical address, holes sparse."""
    block = 1 << 20
    with open(ram_file, "rb") as source, open(target, "wb") as out:
        for paddr, size, offset in physical_ranges(ram):
            for start, end in _data(source.fileno(), offset, offset + size):
                for at in range(start, end, block):
                    piece = os.pread(source.fileno(), min(block, end - at), at)
                    os.pwrite(out.fileno(), piece, paddr + at - offset)
            out.truncate(paddr + size)


def _data(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """`(start, end)` of the parts of a sparse file that were ever written."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError:
            return  # only a hole is left
        stop = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        if start < stop:
            yield start, stop
        start = stop
