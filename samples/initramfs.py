"""An initramfs out of Debian packages: the programs asked for, the libraries they need, files of our own."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from hybridbridge_vol.kernel_file.packages import Member, members
from samples.apt import AptError

_LIBRARY = re.compile(r"\.so(\.[\d.]+)?$")
_MERGED = ("bin", "sbin", "lib", "lib64")
"""Folders that are links into /usr."""
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5


class Archive:
    """A newc cpio archive under construction (Documentation/driver-api/early-userspace/buffer-format.rst).

    It is left uncompressed: an emulated guest copies faster than it unpacks.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """One entry, unless it is there already; its parent folders come by themselves.

        `mode` includes the file type; `data` is a file's contents or a link's target; `device` major and
        minor.
        """
        if name in self._names:
            return
        parent = str(PurePosixPath(name).parent)
        if parent != ".":
            self.add(parent, 0o40755)
        self._names.add(name)
        self._parts.append(_entry(len(self._names), name, mode, data, device))

    def finished(self) -> bytes:
        """The archive with its end mark. Archives may follow one another in an initramfs."""
        return b"".join([*self._parts, _entry(0, "TRAILER!!!", 0, b"", (0, 0))])


def _entry(number: int, name: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape") + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return b"".join((head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)))


def needed_libraries(elf: bytes) -> list[str]:
    """DT_NEEDED of a little-endian 64-bit ELF file; empty for anything else, and where a table leads out of
    the file."""
    if elf[:6] != b"\x7fELF\2\1" or len(elf) < 64:
        return []
    segments = _segments(elf)
    dynamic: list[tuple[int, int]] = []
    for kind, offset, _vaddr, size in segments:
        if kind == _PT_DYNAMIC:
            dynamic += _dynamic(elf, offset, size)
    strings = next((_offset_of(value, segments) for tag, value in dynamic if tag == _DT_STRTAB), None)
    if strings is None:
        return []
    names = [strings + value for tag, value in dynamic if tag == _DT_NEEDED]
    return [elf[at:].split(b"\0", 1)[0].decode("ascii", "replace") for at in names]


def _segments(elf: bytes) -> list[tuple[int, int, int, int]]:
    """`(type, offset, vaddr, size in the file)` of the program headers; empty if one is not in the file."""
    (table,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    segments = []
    for at in range(table, table + count * size, size or 1):
        if at + 56 > len(elf):
            return []
        kind, _flags, offset, vaddr, _paddr, file_size = struct.unpack_from("<IIQQQQ", elf, at)
        segments.append((kind, offset, vaddr, file_size))
    return segments


def _dynamic(elf: bytes, offset: int, size: int) -> Iterator[tuple[int, int]]:
    """`(tag, value)` of a dynamic section, up to its end mark."""
    for at in range(offset, min(offset + size, len(elf) - 15), 16):
        tag, value = struct.unpack_from("<QQ", elf, at)
        if tag == _DT_NULL:
            return
        yield tag, value


def _offset_of(vaddr: int, segments: Iterable[tuple[int, int, int, int]]) -> int | None:
    """Where in the file the byte for an address is."""
    for kind, offset, start, size in segments:
        if kind == _PT_LOAD and start <= vaddr < start + size:
            return offset + vaddr - start
    return None


def userland(packages: Iterable[Path], wanted: Iterable[str]) -> Archive:
    """The package files whose whole path matches one of the regular expressions `wanted`, and the libraries
    that they need.

    Paths are taken with /usr merged: /bin, /sbin and /lib are links. AptError if a library is in no package.
    """
    archive = Archive()
    files = {_merged(member.name): member for path in packages for member in members(path)}
    libraries = {PurePosixPath(name).name: name for name in sorted(files) if _LIBRARY.search(name)}
    for link in _MERGED:
        archive.add(link, 0o120777, f"usr/{link}".encode())
    pattern = re.compile("|".join(f"(?:{item})" for item in wanted))
    queue = [name for name in files if pattern.fullmatch(name) or name.startswith("usr/lib64/")]
    for name in queue:
        if name in files and name not in archive:
            queue += _add(archive, name, files[name], libraries)
    return archive


def _add(archive: Archive, name: str, member: Member, libraries: dict[str, str]) -> list[str]:
    """Put one file in; what else it needs."""
    if member.link:
        archive.add(name, 0o120777, member.link.encode())
        return [link_target(name, member.link)]
    archive.add(name, 0o100000 | member.mode & 0o777, member.data)
    needed = needed_libraries(member.data)
    if missing := [library for library in needed if library not in libraries]:
        raise AptError(f"{name} needs {', '.join(missing)}, which none of its packages' dependencies has")
    return [libraries[library] for library in needed]


def link_target(name: str, link: str) -> str:
    """The path from the root that a symbolic link `name` with the text `link` leads to, /usr merged."""
    parts: list[str] = []
    for part in (link if link.startswith("/") else str(PurePosixPath(name).parent / link)).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return _merged("/".join(parts))


def _merged(name: str) -> str:
    return f"usr/{name}" if name.split("/")[0] in _MERGED and "/" in name else name
