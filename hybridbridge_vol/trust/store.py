"""The store of trusted kernels: booted once, mapped in milliseconds ever after.

    STORE/RELEASE-BUILDID/kernel.json     what the kernel is (manifest with a checksum)
                          vmlinuz         the kernel file, for further boots
                          symbols         packed symbols
                          relocations     those that had to be recovered, if any
                          memo-*          what is proven of its code (bridge/memo_file.py)
                          boot-ID/        one boot at one layout
                              boot.json   layout, CPU state, checksums (manifest with a checksum)
                              memory      guest-physical RAM from 0, sparse
                              *           what the bridge derives from a boot, made again when absent

A folder appears by one rename: a reader never meets a half-written entry, and of two writers of the same
kernel the first wins. Layouts are secret: folders are private to the user.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hybridbridge_vol.errors import StoreError
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.placement import RAM_SIZE
from hybridbridge_vol.trust.stored_kernel import RELOCATIONS, StoredKernel, add_boot
from hybridbridge_vol.units import Progress

if TYPE_CHECKING:
    from hybridbridge_vol.kernel_file.kernel import KernelImage


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/hybridbridge`, by default under `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(cache) / "hybridbridge"


def default_root() -> Path:
    """Of the store: `trust` in the user's cache folder."""
    return user_cache() / "trust"


@dataclass(frozen=True)
class Entry:
    """One stored kernel. `size_bytes` is what it takes on disk; `created` seconds since the epoch."""

    name: str
    release: str
    banner: str
    build_id: str
    size_bytes: int
    created: float
    boots: int


class Store:
    """All trusted kernels below one folder (`root`, by default `default_root()`)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        self.is_custom = root is not None

    def temporary_folder(self) -> Path:
        """A folder on the store's file system that no reader takes for a kernel. StoreError if that fails."""
        return files.temporary_folder(self.root)

    def kernels(self) -> list[StoredKernel]:
        """Every readable kernel of the store, most recently used first.

        Entries that are damaged or of another format are left out; `problems` names them.
        """
        return [kernel for kernel, _error in self._scan() if kernel is not None]

    def problems(self) -> list[StoreError]:
        """What is wrong with the entries that `kernels` leaves out."""
        return [error for _kernel, error in self._scan() if error is not None]

    def _scan(self) -> Iterator[tuple[StoredKernel | None, StoreError | None]]:
        try:
            folders = sorted(
                (Path(item.path) for item in os.scandir(self.root) if item.is_dir() and item.name[0] != "."),
                key=_last_used,
                reverse=True,
            )
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(
                f"{self.root}: not a readable store ({error.strerror}); choose another with --store DIR"
            ) from None
        for folder in folders:
            try:
                yield _opened(folder), None
            except StoreError as error:
                yield None, error

    def entries(self) -> list[Entry]:
        """What `hb trust list` shows."""
        return [_entry(kernel) for kernel in self.kernels()]

    def entry(self, kernel: StoredKernel) -> Entry:
        """What `hb trust show` shows of a stored kernel."""
        return _entry(kernel)

    def find(self, name: str) -> StoredKernel:
        """The one kernel whose entry name, release or build id begins with `name`."""
        found = [
            k for k in self.kernels() if name and (k.name.startswith(name) or k.build_id.startswith(name))
        ]
        exact = [kernel for kernel in found if name in (kernel.name, kernel.release)]
        if len(exact) == 1:
            return exact[0]
        if len(found) != 1:
            word = "no stored kernel" if not found else f"{len(found)} stored kernels"
            raise StoreError(f"{self.root}: {word} named {name!r}; see 'hb trust list'")
        return found[0]

    def show(self, name: str) -> Entry:
        """One kernel's entry, after checking its memory against the checksums."""
        kernel = self.find(name)
        for boot in kernel.boots():
            boot.verify().finish()
        return _entry(kernel)

    def remove(self, name: str) -> None:
        """Take a kernel out of the store; damaged entries are named by their folder."""
        folder = self.root / name
        if not (name and "/" not in name and folder.is_dir()):
            folder = self.find(name).folder
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(f"{folder}: cannot be removed ({error.strerror})") from None

    def add(
        self,
        path: Path,
        progress: Progress | None = None,
        beside: Callable[[KernelImage], None] | None = None,
        symbols: Path | None = None,
    ) -> StoredKernel:
        """Take in the kernel of a vmlinuz, .deb or .rpm: boot it and keep the booted state. `beside` is given
        the kernel before that, if it is not stored already, to start work of its own. `symbols` is a file
        with symbols that the kernel does not carry itself.

        Raises KernelFileError, BootError or StoreError. A kernel that is stored already is left as it is.
        """
        # only to add a kernel: takes 40 ms
        from hybridbridge_vol.kernel_file.kernel import KernelImage
        from hybridbridge_vol.kernel_file.symbol_files import read_symbol_file

        if progress:
            progress(0.0, "reading the kernel")
        kernel = KernelImage.from_file(path, given=read_symbol_file(symbols) if symbols else None)
        name = f"{kernel.release}-{kernel.build_id[:12]}"
        target = self.root / name
        if (target / "kernel.json").exists():
            with contextlib.suppress(StoreError):
                stored = _opened(target)
                if stored.boots():
                    return stored
        shutil.rmtree(target, ignore_errors=True)
        with files.new_folder(target) as folder:
            if beside:
                beside(kernel)
            text, end = kernel.symbols.address("_text"), kernel.symbols.address("_end")
            add_boot(folder, kernel, (text - RAM_SIZE, end + RAM_SIZE), progress)
            packed = kernel.symbols.pack()
            (folder / "symbols").write_bytes(packed)
            (folder / "vmlinuz").write_bytes(kernel.vmlinuz)
            if kernel.recovered:
                (folder / RELOCATIONS).write_bytes(kernel.relocations.pack())
            record = {
                "format": files.FORMAT,
                "release": kernel.release,
                "banner": kernel.banner,
                "build_id": kernel.build_id,
                "created": time.time(),
                "text": text,
                "end": end,
                "banner_vaddr": kernel.symbols.address("linux_banner"),
                "region_bases": list(kernel.region_constants.linked) if kernel.region_constants else [],
                "modules": kernel.modules_vaddr,
                "probes": probe_sites(kernel),
                "symbols_checksum": zlib.crc32(packed),
            }
            (folder / "kernel.json").write_bytes(files.manifest(record))
        return _opened(target, kernel)


def _opened(folder: Path, image: KernelImage | None = None) -> StoredKernel:
    return StoredKernel(folder, files.read_manifest(folder / "kernel.json"), image)


PROBES = 256
"""Pointers compared to find by how much a kernel was shifted: so many do not agree by accident."""


def probe_sites(kernel: KernelImage) -> list[tuple[int, int]]:
    """`(offset from _text, link-time value)` of relocated 64-bit pointers in .rodata, evenly spread."""
    symbols = kernel.symbols
    text = symbols.address("_text")
    first, last = symbols.address("__start_rodata"), symbols.address("__end_rodata")
    sites = [site for site in kernel.relocations.abs64 if first <= site < last - 8]
    flat = kernel.flat()
    chosen = sites[:: max(1, len(sites) // PROBES)][:PROBES]
    return [(site - text, int.from_bytes(flat[site - text : site - text + 8], "little")) for site in chosen]


def _entry(kernel: StoredKernel) -> Entry:
    boots = kernel.boots()
    size = sum(item.stat().st_blocks * 512 for item in kernel.folder.rglob("*") if item.is_file())
    return Entry(
        kernel.name, kernel.release, kernel.banner, kernel.build_id, size, kernel.created, len(boots)
    )


def _last_used(folder: Path) -> float:
    """When an entry was last used, in seconds since the epoch; 0 if another process has just removed it."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
