"""The linked modules of a stored kernel, kept beside it: taken out of the modules' files when a kernel is
trusted, or when they are first compared, and made again when damaged."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard

from hybridbridge_vol.check.modules.link import link
from hybridbridge_vol.check.modules.linked_module import LinkedModule, LinkedSegment, Sites, columns
from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.trust import modules

FORMAT = 5
ARCHIVE = f"linked-modules-{FORMAT}.zip"
_LEVEL = 1
_HEADER = struct.Struct("<I")
_FILE_HEADER = 30
"""Bytes of a file's header in a zip archive before its name (APPNOTE.TXT, 4.3.7)."""
DAMAGE = (KeyError, ValueError, IndexError, TypeError, struct.error, zipfile.BadZipFile, zstandard.ZstdError)


def linked_modules(folder: Path, names: Iterable[str]) -> dict[str, LinkedModule]:
    """By name those of a stored kernel's modules that are kept in its folder and are sound."""
    wanted = {name: key for name in names if (key := modules.checksum(folder, name)) is not None}
    found = dict(_kept(folder / ARCHIVE, wanted))
    missing = [name for name in wanted if name not in found]
    made = {name: module for name in missing if (module := _linked(folder, name)) is not None}
    if made:
        with contextlib.suppress(OSError):  # a read-only store works, only slower
            _keep(folder / ARCHIVE, ((_entry(name, wanted[name]), module) for name, module in made.items()))
    return found | made


def link_all(folder: Path) -> None:
    """Keep all modules of a stored kernel linked. What cannot be written is linked when it is compared."""

    def made() -> Iterator[tuple[str, LinkedModule]]:
        kept = _names(folder / ARCHIVE)
        for name in modules.names(folder):
            entry = _entry(name, modules.checksum(folder, name) or 0)
            module = None if entry in kept else _linked(folder, name)
            if module is not None:
                yield entry, module

    with contextlib.suppress(OSError):
        _keep(folder / ARCHIVE, made())


def _names(archive: Path) -> frozenset[str]:
    try:
        with zipfile.ZipFile(archive) as source:
            return frozenset(source.namelist())
    except (OSError, zipfile.BadZipFile):
        return frozenset()


def _entry(name: str, checksum: int) -> str:
    """What a module is kept as: another file of that name is another module."""
    return f"{name}.{checksum:08x}"


def _linked(folder: Path, name: str) -> LinkedModule | None:
    file = modules.load(folder, name)
    try:
        return None if file is None else link(name, file)
    except (KernelFileError, ValueError, IndexError, OverflowError):
        return None


def _kept(path: Path, wanted: Mapping[str, int]) -> Iterator[tuple[str, LinkedModule]]:
    """What is kept of the wanted modules. The archive's entries are read where they lie: thousands of them
    are opened faster than `zipfile` does, and their own checksums are checked."""
    try:
        with open(path, "rb") as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.NameToInfo
            view = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError, zipfile.BadZipFile):
        return
    unpack = zstandard.ZstdDecompressor().decompress
    with view:
        for name, checksum in wanted.items():
            with contextlib.suppress(*DAMAGE):
                entry = entries[_entry(name, checksum)]
                start = entry.header_offset + _FILE_HEADER + len(entry.filename.encode())
                yield name, unpacked(unpack(view[start : start + entry.file_size]))


def _keep(path: Path, made: Iterable[tuple[str, LinkedModule]]) -> None:
    """Add modules to the archive, which others see as it was or with all of them. Each with the name of its
    entry."""
    pack = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    os.close(handle)
    try:
        with zipfile.ZipFile(temporary, "w") as target:
            for name, module in made:
                target.writestr(name, pack(packed(module)))
            with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as source:
                for name in source.namelist():
                    if name not in target.NameToInfo:
                        target.writestr(name, source.read(name))
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def packed(module: LinkedModule) -> bytes:
    """A module as bytes: a description as JSON with its size before it, then all columns one after the
    other."""
    arrays = [column for part in (*module.segments, module.sites) for column in columns(part)]
    words = {
        "name": module.name, "build_id": module.build_id, "absolute": module.absolute,
        "imports": module.imports, "exports": module.exports, "own_struct": module.own_struct,
        "columns": [(column.dtype.str, len(column)) for column in arrays],
    }  # fmt: skip
    head = json.dumps(words, separators=(",", ":")).encode()
    head += b" " * (-(len(head) + _HEADER.size) % 8)
    return b"".join(
        [_HEADER.pack(len(head)), head, *(column.tobytes() + bytes(-column.nbytes % 8) for column in arrays)]
    )


def unpacked(data: bytes) -> LinkedModule:
    """Read what `packed` gave. One of DAMAGE for anything else."""
    (size,) = _HEADER.unpack_from(data)
    at = _HEADER.size + size
    words = json.loads(data[_HEADER.size : at])
    arrays: list[npt.NDArray[np.generic]] = []
    for kind, count in words["columns"]:
        column = np.frombuffer(data, kind, count, at)
        arrays.append(column)
        at += column.nbytes + -column.nbytes % 8
    width = len(fields(LinkedSegment))
    segments = [LinkedSegment(*arrays[start : start + width]) for start in range(0, 4 * width, width)]  # type: ignore[arg-type]
    own = words["own_struct"]
    return LinkedModule(
        words["name"],
        words["build_id"],
        (segments[0], segments[1], segments[2], segments[3]),
        words["absolute"],
        words["imports"],
        {name: (place, offset) for name, (place, offset) in words["exports"].items()},
        None if own is None else (own[0], own[1]),
        Sites(*arrays[4 * width :]),  # type: ignore[arg-type]
    )
