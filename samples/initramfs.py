"""An initramfs out of Debian packages: the programs asked for, the libraries they need, files of our own."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from hybridbridge_vol.image.packages import Member, members

_LIBRARY = re.compile(r"\.so(\.[\d.]+)?$")


class Archive:
    """A newc cpio archive under construction (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """One entry; its parent folders come by themselves. `mode` includes the file type."""
        if name in self._names:
            return
        parent = str(PurePosixPath(name).parent)
        if parent != ".":
            self.add(parent, 0o40755)
        self._names.add(name)
        encoded = name.encode() + b"\0"
        number = len(self._names)
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def compressed(self) -> bytes:
        """The finished archive, gzipped lightly: the guest's time is dearer than ours."""
        self.add("TRAILER!!!", 0)
        compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
        return compressor.compress(b"".join(self._parts)) + compressor.flush()


def needed_libraries(elf: bytes) -> list[str]:
    """DT_NEEDED of an ELF file; empty for anything else."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    try:
        sections = ELFFile(io.BytesIO(elf)).iter_sections()
        dynamic = next((section for section in sections if isinstance(section, DynamicSection)), None)
    except ELFError:
        return []
    return [tag.needed for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"] if dynamic else []


def add_programs(archive: Archive, packages: Iterable[Path], wanted: Iterable[str]) -> None:
    """Put the package files whose whole path matches one of the regular expressions `wanted` into the archive, and the libraries they need.

    Paths are taken with /usr merged: /bin, /sbin and /lib are links.
    """
    files = {_merged(member.name): member for path in packages for member in members(path)}
    libraries = {PurePosixPath(name).name: name for name in files if _LIBRARY.search(name)}
    for link in ("bin", "sbin", "lib", "lib64"):
        archive.add(link, 0o120777, f"usr/{link}".encode())
    pattern = re.compile("|".join(wanted))
    queue = [name for name in files if pattern.fullmatch(name) or name.startswith("usr/lib64/")]
    for name in queue:
        if name in archive or name not in files:
            continue
        queue += _add(archive, name, files[name], libraries)


def _add(archive: Archive, name: str, member: Member, libraries: dict[str, str]) -> Iterator[str]:
    """Put one file in; what else it needs."""
    if member.link:
        archive.add(name, 0o120777, member.link.encode())
        target = member.link if member.link.startswith("/") else str(PurePosixPath(name).parent / member.link)
        return iter([_merged(_normal(target))])
    archive.add(name, 0o100000 | member.mode & 0o777, member.data)
    needed = needed_libraries(member.data) if member.data[:4] == b"\x7fELF" else []
    return iter([libraries[library] for library in needed if library in libraries])


def _merged(name: str) -> str:
    return f"usr/{name}" if name.startswith(("bin/", "sbin/", "lib/", "lib64/")) else name


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
