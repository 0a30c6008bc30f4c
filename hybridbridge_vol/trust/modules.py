"""The modules of a stored kernel: the package's own `.ko` files, kept in one archive, each read when it is needed.

A snapshot's modules run from these files alone (bridge/modules.py); one that is not here is named and not run.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from hybridbridge_vol.errors import KernelFileError, StoreError
from hybridbridge_vol.image import archives, packages
from hybridbridge_vol.image.module import ModuleFile, module_name, release_of

ARCHIVE = "modules.zip"
PATTERNS = ("*.ko", "*.ko.xz", "*.ko.zst", "*.ko.gz")
_COMPRESSION_LEVEL = 1  # a third of the size; more would make adding a kernel wait


def module_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """`(name, ELF)` of every module in a package, or of the one that `path` itself is. KernelFileError, OSError."""
    if path.name.endswith((".ko", ".ko.xz", ".ko.zst", ".ko.gz")):
        yield module_name(path.name), archives.decompressed_bytes(path.read_bytes())
        return
    for member in packages.members(path, *PATTERNS):
        if member.data:
            yield module_name(member.name), archives.decompressed_bytes(member.data)


def release(path: Path) -> str | None:
    """The kernel release that the modules of a package are for; None if it has none."""
    for name, data in module_files(path):
        return release_of(ModuleFile(data, f"{path}: {name}").facts().get("vermagic", ""))
    return None


def keep(folder: Path, modules: Iterable[tuple[str, bytes]]) -> int:
    """Add modules to those kept in a kernel's folder; how many were given. StoreError if it cannot be written."""
    path = folder / ARCHIVE
    count = 0
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
        os.close(handle)
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL) as archive:
                for name, data in modules:
                    if name not in archive.NameToInfo:
                        archive.writestr(name, data)
                        count += 1
                for name in names(folder):
                    if name not in archive.NameToInfo:
                        archive.writestr(name, read(folder, name) or b"")
            if count:
                os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from None
    return count


def names(folder: Path) -> list[str]:
    """The names of the modules kept; none if the archive is absent or damaged."""
    try:
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def read(folder: Path, name: str) -> bytes | None:
    """One module's file; None if it is not kept or damaged."""
    path = folder / ARCHIVE
    try:
        status = path.stat()
        return _opened(path, status.st_ino, status.st_mtime_ns).read(name)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


@lru_cache(maxsize=1)
def _opened(path: Path, _inode: int, _mtime_ns: int) -> zipfile.ZipFile:
    """An archive, kept open as long as it is the one that is read: its directory of a thousand files takes a while."""
    return zipfile.ZipFile(path)


def load(folder: Path, name: str) -> ModuleFile | None:
    """One module, read and taken apart; None if it is not kept or cannot be used."""
    data = read(folder, name)
    try:
        return None if data is None else ModuleFile(data, name)
    except KernelFileError:
        return None
