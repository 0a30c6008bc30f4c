"""Debian's makedumpfile on the core of a sample guest, as kdump's capture kernel would run it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from elf_writer import Load, elf_core, headers_size, note

from hybridbridge_vol.kernel_file.packages import members
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout
from samples.apt import download, own_suite, with_libraries
from samples.lime import system_ram
from samples.make import Sample

PAGE = 4096
_PROGRAM, _LIBRARIES = "usr/bin/makedumpfile", "usr/lib/x86_64-linux-gnu"


def unpack(folder: Path) -> Path:
    """The program with its libraries, but for the C library, which is the host's; the folder they are in."""
    suites = (own_suite(),)
    for package in download(with_libraries(("makedumpfile",), suites), suites):
        if package.name.startswith(("libc6_", "libgcc")):
            continue
        for member in members(package):
            path = folder / member.name
            if member.name == _PROGRAM or ".so" in member.name:
                path.parent.mkdir(parents=True, exist_ok=True)
                if member.link:
                    path.symlink_to(member.link)
                else:
                    path.write_bytes(member.data)
                    path.chmod(0o755)
    return folder


def run(tools: Path, core: Path, target: Path, *options: str) -> Path:
    """Filter a core; the file made. With -F the program writes to its standard output, which is that file
    then."""
    libraries = f"{tools / _LIBRARIES}:{tools / _LIBRARIES.removeprefix('usr/')}"
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    command: list[str | Path] = [tools / _PROGRAM, *options]
    if "-F" in options:
        with open(target, "wb") as out:
            flat = subprocess.run(
                [*command, core], env=environment, stdout=out, stderr=subprocess.PIPE, check=False
            )
        assert flat.returncode == 0, flat.stderr[-1000:]
        return target
    done = subprocess.run(
        [*command, "-f", core, target], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def vmcore(sample: Sample, layout: SnapshotLayout, target: Path) -> Path:
    """What /proc/vmcore would be of a sample's memory: the kernel's own notes, the kernel image and the
    direct map as segments (fs/proc/vmcore.c)."""
    place, size = sample.truth.file("/sys/kernel/vmcoreinfo").split()
    with open(sample.raw, "rb") as raw:

        def read(paddr: int, count: int) -> bytes:
            raw.seek(paddr)
            return raw.read(count)

        own = read(int(place, 16), int(size, 16))
        notes = note(b"CORE", bytes(336), 1) + note(b"VMCOREINFO", _text_of(own))
        kernel = layout.size // PAGE * PAGE
        pieces = [(layout.text_paddr, kernel, layout.text_vaddr)]
        pieces += [
            (start, count // PAGE * PAGE, layout.page_offset_base + start)
            for start, count in system_ram(sample.meta["ram"])
        ]
        offset = -(-headers_size(len(pieces), notes) // PAGE) * PAGE
        loads, at = [], offset
        for paddr, count, vaddr in pieces:
            loads.append(Load(paddr, count, at, vaddr=vaddr))
            at += count
        with open(target, "wb") as out:
            out.write(elf_core(loads, notes).ljust(offset, b"\0"))
            for paddr, count, _vaddr in pieces:
                out.write(read(paddr, count))
    return target


def _text_of(own: bytes) -> bytes:
    """The lines of the kernel's VMCOREINFO note."""
    start = own.index(b"OSRELEASE=")
    return own[start:].split(b"\0", 1)[0]
