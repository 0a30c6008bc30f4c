"""Memory image files: which guest-physical ranges a file holds, and where.

Raw, LiME and ELF cores are lists of plain slices of the file. Their two small parsers are our own because
importing Volatility costs more time than all the rest of a run; kdump-compressed dumps, AVML and VMware have
modules of their own, and QEMU's saved states are left to Volatility's layer. Nothing here is read but
headers: a PhysicalImage reads what it is asked for.

A compressed raw image is not unpacked on the fly but named, with the command that unpacks it: pages are asked
for all over the file, so every run of every tool would unpack all of it again, minutes for an answer that
takes 0.3 s from the unpacked file, and would hide a second copy of the machine's memory in a temporary folder
that may lack the room.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image import foreign_files as mistaken
from hybridbridge_vol.memory_image.elf_core import parse_elf_core
from hybridbridge_vol.memory_image.lime import LIME_MAGIC, parse_lime
from hybridbridge_vol.memory_image.physical import (
    MAX_PADDR,
    MAX_RUNS,
    MIN_IMAGE_SIZE,
    PhysicalImage,
    Run,
    checked,
    file_reader,
)
from hybridbridge_vol.memory_image.savevm import open_with_volatility
from hybridbridge_vol.units import Progress

_KDUMP = (b"KDUMP   ", b"makedumpfile\0\0\0\0")
_AVML = b"AVML\2\0\0\0"
_SAVEVM = b"QEVM"
_VMEM = ".vmem"
_VMWARE = tuple(
    bytes.fromhex(magic) for magic in ("d0bed2be", "d0bed0be", "d1bad1ba", "d2bad2ba", "d2bed2be", "d3bed3be")
)


def open_image(path: Path | str, progress: Progress | None = None) -> PhysicalImage:
    """Open a memory image of any format. ImageError, in one line, if it is none."""
    path = Path(path)
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = "does not exist" if error.errno == errno.ENOENT else f"cannot be opened ({error.strerror})"
        raise ImageError(f"{path}: {reason}") from None
    try:
        return _identify(path, fd, progress)
    except OSError as error:
        os.close(fd)
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    except BaseException:
        os.close(fd)
        raise


def _identify(path: Path, fd: int, progress: Progress | None) -> PhysicalImage:
    info = os.fstat(fd)
    if stat.S_ISDIR(info.st_mode):
        raise ImageError(f"{path}: a directory; give the memory image in it")
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(f"{path}: not a regular file; copy the memory to a file first")
    if info.st_size == 0:
        raise ImageError(f"{path}: empty")
    head = os.pread(fd, mistaken.HEAD_SIZE, 0)
    if what := mistaken.what_it_is(head, str(path)):
        raise ImageError(f"{path}: {what}")
    if head[:4] == LIME_MAGIC.to_bytes(4, "little") and head[4:8] == b"\x01\0\0\0":
        runs, missing = parse_lime(file_reader(fd), info.st_size)
        return checked(PhysicalImage(path, fd, "LiME", runs, missing))
    if head[:4] == b"\x7fELF":
        runs, missing = parse_elf_core(file_reader(fd), info.st_size, str(path))
        return checked(PhysicalImage(path, fd, "ELF core", runs, missing))
    if head.startswith(_KDUMP):
        return checked(_open_kdump(path, fd, info.st_size, progress))
    if head.startswith(_AVML):
        return checked(_open_avml(path, fd, info.st_size, progress))
    if head.startswith(_SAVEVM):
        return checked(open_with_volatility(path, fd, "QEMU savevm", progress))
    if head.startswith(_VMWARE) or path.suffix.lower() == _VMEM:
        from hybridbridge_vol.memory_image.vmware import open_vmware

        return checked(open_vmware(path, fd, progress))
    if info.st_size < MIN_IMAGE_SIZE:
        raise ImageError(f"{path}: too small to hold a Linux kernel ({info.st_size} bytes)")
    if info.st_size > MAX_PADDR:
        raise ImageError(f"{path}: larger than any machine's memory ({info.st_size} bytes)")
    return PhysicalImage(path, fd, "raw", [Run(0, info.st_size, 0)])


def _open_kdump(path: Path, fd: int, file_size: int, progress: Progress | None) -> PhysicalImage:
    from hybridbridge_vol.memory_image import kdump
    from hybridbridge_vol.memory_image import kdump_flattened as flattened

    read_at = file_reader(fd)
    name = "kdump"
    if read_at(0, len(flattened.SIGNATURE)) == flattened.SIGNATURE:
        name = "kdump (flattened)"
        whole = flattened.Flattened(read_at, file_size, str(path), progress)
        read_at, file_size = whole.read_at, whole.size
    dump = kdump.KdumpFile(read_at, file_size, str(path), progress)
    runs = [Run(paddr, size, 0) for paddr, size in dump.ranges]
    return PhysicalImage(path, fd, name, runs, dump.missing, dump.read)


def _open_avml(path: Path, fd: int, file_size: int, progress: Progress | None) -> PhysicalImage:
    from hybridbridge_vol.memory_image.avml import AvmlPages
    from hybridbridge_vol.memory_image.kdump import merged

    pages = AvmlPages(file_reader(fd), file_size, progress)
    runs = [Run(paddr, size, 0) for paddr, size in merged(sorted(pages.spans), MAX_RUNS)]
    return PhysicalImage(path, fd, "AVML", runs, pages.missing, pages.read)
