"""Running a guest in QEMU until it stops the machine, and saving its memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BINARY = "qemu-system-x86_64"
SHARED_SIZE = 64 << 20
"""Room for what the observer records, outside the guest's memory."""
PCI_HOLE_START, PCI_HOLE_END = 3 << 30, 4 << 30
"""With max-ram-below-4g=3G, memory beyond 3 GiB continues at 4 GiB (hw/i386/pc_piix.c)."""
_BLOCK = 1 << 16
_NUMA_MACHINE = "pc-i440fx-5.0"
"""The last machine type that takes nodes of memory as parts of one backend (hw/core/numa.c, `node,mem=`)."""


class GuestError(Exception):
    """A guest did not come to its capture; the one-line message ends with its last console lines."""


@dataclass(frozen=True)
class Machine:
    """The hardware of a guest: `ram` in bytes; `accel` as QEMU names it; `la57` for 5-level page tables;
    `nodes`: NUMA nodes among which memory is divided evenly; `disks`: sizes in bytes of the
    files `disk0`, `disk1`, and so on."""

    ram: int
    cpus: int = 1
    accel: str = "tcg"
    la57: bool = False
    nodes: int = 1
    disks: tuple[int, ...] = ()

    def arguments(self) -> list[str]:
        """QEMU's options. Guest memory is the file `ram`, the observer's records go to the file `shared`."""
        kind = "pc" if self.nodes == 1 else _NUMA_MACHINE
        share = f"{(self.ram >> 20) // self.nodes}M"
        nodes = [word for _ in range(self.nodes) for word in ("-numa", f"node,mem={share}")]
        names = map(disk_name, range(len(self.disks)))
        drives = [f"file={name},if=virtio,format=raw,cache=unsafe" for name in names]
        model = "max" if self.accel == "tcg" else "host"
        return [
            "-machine", f"{kind},accel={self.accel},memory-backend=ram,max-ram-below-4g=3G",
            "-smp", str(self.cpus), "-cpu", f"{model},la57={'on' if self.la57 else 'off'}",
            "-m", f"{self.ram >> 20}M",
            "-object", f"memory-backend-file,id=ram,size={self.ram},mem-path=ram,share=on",
            "-object", f"memory-backend-file,id=shared,size={SHARED_SIZE},mem-path=shared,share=on",
            "-device", "ivshmem-plain,memdev=shared", "-device", "pvpanic-pci", "-action", "panic=pause",
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none",
            *(nodes if self.nodes > 1 else ()),
            *(word for drive in drives for word in ("-drive", drive)),
        ]  # fmt: skip


def disk_name(number: int) -> str:
    """The file of a guest's disk, in its folder."""
    return f"disk{number}"


def find_qemu() -> str:
    """The emulator's path; GuestError says how to get it."""
    path = shutil.which(BINARY)
    if path is None:
        raise GuestError(
            f"{BINARY} is not installed: apt-get install --no-install-recommends qemu-system-x86"
        )
    return path


def version() -> str:
    """QEMU's own version line."""
    done = subprocess.run([find_qemu(), "--version"], capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0]


class Guest:
    """One QEMU process, spoken to in QMP over its standard streams (docs/interop/qmp-spec.txt).

    Whatever waits for it raises GuestError when `deadline` (of time.monotonic) has passed.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], deadline: float) -> None:
        self.folder = folder
        self._process = process
        self._deadline = deadline
        self._buffer = b""

    def wait_for_capture(self) -> None:
        """Return when the guest has stopped the machine by writing to the pvpanic device."""
        self._receive()  # the greeting
        self.command("qmp_capabilities")
        while self._receive().get("event") != "GUEST_PANICKED":
            pass

    def command(self, name: str, arguments: Mapping[str, object] | None = None) -> Any:
        """The answer to one QMP command; GuestError if QEMU refuses."""
        assert self._process.stdin
        order = {"execute": name, "arguments": dict(arguments or {})}
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise GuestError(f"QEMU ended early; {self._last_lines()}") from None
        while True:
            message = self._receive()
            if "error" in message:
                raise GuestError(f"QEMU refused {name}: {message['error'].get('desc')}")
            if "return" in message:
                return message["return"]

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout
        while b"\n" not in self._buffer:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise GuestError(f"the guest did not come to its end in time; {self._last_lines()}")
            piece = os.read(self._process.stdout.fileno(), 1 << 16)
            if not piece:
                raise GuestError(f"QEMU ended early; {self._last_lines()}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _last_lines(self) -> str:
        lines: list[str] = []
        for name in ("qemu.log", "console"):
            with contextlib.suppress(OSError):
                text = (self.folder / name).read_text(errors="replace")
                lines += [line.strip() for line in text.splitlines() if line.strip()][-8:]
        return f"its last lines: {' | '.join(lines)}" if lines else "it printed nothing"


@contextlib.contextmanager
def running(
    folder: Path, machine: Machine, kernel: str, initrd: str, command_line: str, seconds: float
) -> Iterator[Guest]:
    """A guest whose files are in `folder`; QEMU is ended when the block ends, and also when this process
    dies.

    `kernel` and `initrd` are names in `folder`; `seconds` is how long the guest may take for everything.
    """
    for number, size in enumerate(machine.disks):
        with open(folder / disk_name(number), "wb") as disk:
            disk.truncate(size)
    command = [
        find_qemu(), *machine.arguments(), "-kernel", kernel, "-initrd", initrd, "-append", command_line,
        "-serial", "file:console", "-qmp", "stdio",
    ]  # fmt: skip
    if setpriv := shutil.which("setpriv"):
        command = [setpriv, "--pdeathsig", "KILL", *command]
    with open(folder / "qemu.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
    with process:
        try:
            yield Guest(folder, process, time.monotonic() + seconds)
        finally:
            process.kill()


def physical_ranges(ram: int) -> list[tuple[int, int, int]]:
    """`(paddr, size, offset in the RAM file)` of a machine with `ram` bytes."""
    if ram <= PCI_HOLE_START:
        return [(0, ram, 0)]
    return [(0, PCI_HOLE_START, 0), (PCI_HOLE_END, ram - PCI_HOLE_START, PCI_HOLE_START)]


def save_raw(ram_file: Path, ram: int, target: Path) -> str:
    """Write physical memory as a raw image (file offset = physical address), empty blocks sparse; its
    SHA-256."""
    digest = hashlib.sha256()
    zeros = bytes(_BLOCK)
    written = 0

    def skip_to(paddr: int) -> None:
        nonlocal written
        while written < paddr:
            digest.update(zeros[: paddr - written])
            written += min(_BLOCK, paddr - written)

    with open(ram_file, "rb") as source, open(target, "wb") as out:
        for paddr, size, offset in physical_ranges(ram):
            for start, end in _data(source.fileno(), offset, offset + size):
                for at in range(start, end, _BLOCK):
                    piece = os.pread(source.fileno(), min(_BLOCK, end - at), at)
                    if piece != zeros:
                        skip_to(paddr + at - offset)
                        os.pwrite(out.fileno(), piece, written)
                        digest.update(piece)
                        written += len(piece)
            skip_to(paddr + size)
        out.truncate(written)
    return digest.hexdigest()


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
