"""The modules of a stored kernel: the package's own `.ko` files, kept in one archive, each compressed by
itself and read when it is needed.

Code of a snapshot's modules runs from these files alone (bridge/modules/); a module whose file is missing is
named and not run.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from hybridbridge_vol.errors import KernelFileError, StoreError
from hybridbridge_vol.kernel_file.archives.streams import damage_errors, decompressed_bytes
from hybridbridge_vol.kernel_file.module import ModuleFile, module_name, release_of

ARCHIVE = "modules.zip"
PATTERNS = ("*.ko", "*.ko.xz", "*.ko.zst", "*.ko.gz")
_ZSTD_LEVEL = 1  # a third of the size, at four times the speed of deflate: adding a kernel waits for it


def is_module(path: Path) -> bool:
    """Whether a file is called as single modules are."""
    return path.name.endswith(tuple(pattern.removeprefix("*") for pattern in PATTERNS))


def module_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """`(name, ELF)` of every module in a package, or of the one that `path` itself is. KernelFileError,
    OSError."""
    if is_module(path):
        yield module_name(path.name), decompressed_bytes(path.read_bytes())
        return
    from hybridbridge_vol.kernel_file import packages  # 2 ms, and most runs open no package

    for member in packages.members(path, *PATTERNS):
        if member.data:
            yield module_name(member.name), decompressed_bytes(member.data)


def release(path: Path) -> str | None:
    """The kernel release that the modules of a package are for; None if it has none."""
    for name, data in module_files(path):
        return release_of(ModuleFile(data, f"{path}: {name}").facts().get("vermagic", ""))
    return None


def keep(folder: Path, modules: Iterable[tuple[str, bytes]]) -> int:
    """Add modules to those kept in a kernel's folder; how many were given. StoreError if that fails."""
    import zstandard  # only to add a kernel: takes 7 ms

    path = folder / ARCHIVE
    count = 0
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
        os.close(handle)
        try:
            compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
            with zipfile.ZipFile(temporary, "w") as archive:
                for name, data in modules:
                    if name not in archive.NameToInfo:
                        archive.writestr(name, compressor.compress(data))
                        count += 1
                for name in names(folder):
                    if name not in archive.NameToInfo:
                        archive.writestr(name, _archive(folder).read(name))
            if count:
                os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from None
    return count


def move(source: Path, folder: Path) -> None:
    """Move the modules kept in one folder, if any, to another of the same file system. StoreError."""
    move_file(source, folder, ARCHIVE)


def move_file(source: Path, folder: Path, name: str) -> None:
    """Move a file, if there is one, from a folder to another of the same file system. StoreError."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.replace(source / name, folder / name)
    except OSError as error:
        raise StoreError(f"{folder / name}: cannot be written ({error.strerror})") from None


def names(folder: Path) -> list[str]:
    """The names of the modules kept; none if the archive is absent or damaged."""
    try:
        return _archive(folder).namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def _archive(folder: Path) -> zipfile.ZipFile:
    """The archive, opened; its table of a thousand names is read once."""
    path = folder / ARCHIVE
    found = path.stat()
    return _opened(path, found.st_ino, found.st_mtime_ns, os.getpid())


@lru_cache(maxsize=2)
def _opened(path: Path, _inode: int, _changed_ns: int, _process: int) -> zipfile.ZipFile:
    # a process of its own for each: after a fork, both would move one position in the file
    return zipfile.ZipFile(path)


def read(folder: Path, name: str) -> bytes | None:
    """One module's file; None if it is not kept or damaged."""
    damage: tuple[type[Exception], ...] = (KeyError, zipfile.BadZipFile, *damage_errors())
    try:
        return decompressed_bytes(_archive(folder).read(name))
    except damage:
        return None


def checksum(folder: Path, name: str) -> int | None:
    """What names the contents of one module's file; None if it is not kept."""
    try:
        return _archive(folder).getinfo(name).CRC
    except (KeyError, OSError, zipfile.BadZipFile):
        return None


def load(folder: Path, name: str) -> ModuleFile | None:
    """One module, read and parsed; None if it is not kept or cannot be used."""
    data = read(folder, name)
    try:
        return None if data is None else ModuleFile(data, name)
    except KernelFileError:
        return None
