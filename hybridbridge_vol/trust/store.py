"""The store of trusted kernels: booted once, mapped in milliseconds ever after.

    STORE/RELEASE-BUILDID/kernel.json     what the kernel is (sealed manifest)
                          vmlinuz         the kernel file, for further boots
                          symbols         packed kallsyms
                          boot-ID/        one boot at one layout
                              boot.json   layout, CPU state, checksums (sealed manifest)
                              memory      guest-physical RAM from 0, sparse
                              *           what the bridge derives from a boot, rebuilt when absent

A folder appears by one rename, so a reader never meets a half-written entry and of two writers of the same kernel
one simply wins. Layouts are secret: folders are private to the user.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridbridge_vol.errors import StoreError
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.layout import RAM_SIZE, Layout, overlap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hybridbridge_vol.image.kernel import KernelImage
    from hybridbridge_vol.image.symbols import Symbols

Progress = Callable[[float, str], None]


def default_root() -> Path:
    """`$XDG_CACHE_HOME/hybridbridge/trust`, by default under `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(cache) / "hybridbridge" / "trust"


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


@dataclass(frozen=True)
class Boot:
    """One booted state of a kernel, as stored in `folder`."""

    folder: Path
    layout: Layout
    return_vaddr: int
    state: dict[str, list[int]]
    extents: files.Extents
    memory_size: int
    memory_checksum: int

    def map_memory(self) -> HostMapping:
        """The booted RAM, mapped copy-on-write. StoreError if the file is not as it was written."""
        path = self.folder / "memory"
        try:
            with open(path, "rb") as stream:
                if os.fstat(stream.fileno()).st_size != self.memory_size:
                    raise StoreError(f"{path}: truncated; remove the entry with 'hb trust rm' and add the kernel again")
                return HostMapping.private_file(stream.fileno(), 0, self.memory_size)
        except OSError as error:
            raise StoreError(f"{path}: cannot be mapped ({error.strerror}); add the kernel again") from None

    def verify(self) -> MemoryCheck:
        """Start checking the memory file against its checksum, in the background."""
        return MemoryCheck(self)


class MemoryCheck:
    """A checksum that runs beside the work; `finish` raises StoreError if the file was damaged."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        self._result: int | None = None
        self._thread = threading.Thread(target=self._run, name="checksum", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError), open(self._boot.folder / "memory", "rb") as stream:
            self._result = files.checksum_file(stream.fileno(), self._boot.extents)

    def finish(self) -> None:
        """Wait for the answer."""
        self._thread.join()
        if self._result != self._boot.memory_checksum:
            raise StoreError(
                f"{self._boot.folder / 'memory'}: corrupt (checksum differs); "
                "remove the entry with 'hb trust rm' and add the kernel again"
            )


class StoredKernel:
    """A kernel of the store, opened for use; cheap until something is asked of it."""

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.name = folder.name
        self.release: str = record["release"]
        self.banner: str = record["banner"]
        self.build_id: str = record["build_id"]
        self.created: float = record["created"]
        self.text_link_vaddr: int = record["text"]
        self.end_link_vaddr: int = record["end"]
        self.banner_link_vaddr: int = record["banner_vaddr"]
        self.probes: list[tuple[int, int]] = [(offset, value) for offset, value in record["probes"]]
        self._symbols_checksum: int = record["symbols_checksum"]
        self._symbols: Symbols | None = None
        self._image: KernelImage | None = None

    @property
    def symbols(self) -> Symbols:
        """The kernel's symbol table (link-time addresses)."""
        if self._symbols is None:
            import zlib

            from hybridbridge_vol.image.symbols import Symbols

            path = self.folder / "symbols"
            try:
                packed = path.read_bytes()
            except OSError as error:
                raise StoreError(f"{path}: cannot be read ({error.strerror}); add the kernel again") from None
            if zlib.crc32(packed) != self._symbols_checksum:
                raise StoreError(f"{path}: corrupt; remove the entry with 'hb trust rm' and add the kernel again")
            self._symbols = Symbols.unpack(packed)
        return self._symbols

    def kernel_image(self) -> KernelImage:
        """The kernel file once more (a second: it is decompressed and decoded)."""
        if self._image is None:
            from hybridbridge_vol.image.kernel import KernelImage

            self._image = KernelImage.from_file(self.folder / "vmlinuz")
        return self._image

    def boots(self) -> list[Boot]:
        """All booted states of this kernel."""
        return [_read_boot(folder) for folder in sorted(self.folder.glob("boot-*"))]

    def boot_clear_of(
        self, start_vaddr: int, end_vaddr: int, progress: Progress | None = None, levels: int = 4
    ) -> Boot:
        """A booted state with page tables of so many levels whose kernel image leaves that range of addresses free;
        booted anew if there is none."""
        size = self.end_link_vaddr - self.text_link_vaddr
        for boot in self.boots():
            text = self.text_link_vaddr + boot.layout.kernel_delta
            if boot.layout.levels == levels and not overlap(text, text + size, start_vaddr, end_vaddr):
                return boot
        return add_boot(self.folder, self.kernel_image(), (start_vaddr, end_vaddr), progress, levels)


def _read_boot(folder: Path) -> Boot:
    record = files.unseal(folder / "boot.json")
    return Boot(
        folder,
        Layout(*record["layout"]),
        record["return_vaddr"],
        record["state"],
        [(offset, size) for offset, size in record["extents"]],
        record["memory_size"],
        record["memory_checksum"],
    )


def add_boot(
    entry: Path, kernel: KernelImage, avoid: tuple[int, int] | None = None, progress: Progress | None = None,
    levels: int = 4,
) -> Boot:
    """Boot `kernel` at a fresh layout and keep its state in the entry's folder."""
    from hybridbridge_vol.trust.boot import boot as boot_kernel
    from hybridbridge_vol.trust.layout import draw_layout

    symbols = kernel.symbols
    layout = draw_layout(symbols.address("_text"), symbols.address("_end"), avoid, levels=levels)
    booted = boot_kernel(kernel, layout, progress)
    with _new_folder(entry, f"boot-{secrets.token_hex(4)}") as folder:
        extents = files.write_sparse(folder / "memory", booted.ram.view)
        record = {
            "format": files.FORMAT,
            "layout": [
                layout.kernel_delta, layout.page_offset_base, layout.vmalloc_base, layout.vmemmap_base, layout.levels,
            ],
            "return_vaddr": booted.return_vaddr,
            "state": booted.machine.save_state(),
            "extents": extents,
            "memory_size": booted.ram.size,
            "memory_checksum": files.checksum(booted.ram.view, extents),
        }
        (folder / "boot.json").write_bytes(files.seal(record))
        target = folder.final
    return _read_boot(target)


def _temporary_folder(parent: Path) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=parent, prefix=".new-"))
    except OSError as error:
        raise StoreError(f"{parent}: cannot be written ({error.strerror}); choose another with --store DIR") from None


class _NewFolder(type(Path())):  # type: ignore[misc]
    """A temporary folder that remembers its final name."""

    final: Path


@contextlib.contextmanager
def _new_folder(parent: Path, name: str) -> Iterator[Any]:
    """A temporary folder beside `parent/name` that is renamed to it when the block ends well.

    If somebody else put the same name there meanwhile, theirs stays and ours is thrown away.
    """
    temporary = _temporary_folder(parent)
    folder = _NewFolder(temporary)
    folder.final = parent / name
    try:
        yield folder
        try:
            os.rename(temporary, folder.final)
        except OSError:
            if not folder.final.is_dir():
                raise
    except OSError as error:
        raise StoreError(f"{parent / name}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Store:
    """All trusted kernels below one folder (`root`, by default `default_root()`)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        self.is_custom = root is not None

    def temporary_folder(self) -> Path:
        """A folder on the store's file system that no reader takes for a kernel. StoreError if there can be none."""
        return _temporary_folder(self.root)

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
                key=lambda folder: folder.stat().st_mtime,
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
                yield StoredKernel(folder, files.unseal(folder / "kernel.json")), None
            except StoreError as error:
                yield None, error

    def entries(self) -> list[Entry]:
        """What `hb trust list` shows."""
        return [_entry(kernel) for kernel in self.kernels()]

    def entry(self, kernel: StoredKernel) -> Entry:
        """What there is to say of a stored kernel."""
        return _entry(kernel)

    def find(self, name: str) -> StoredKernel:
        """The one kernel whose entry name, release or build id begins with `name`."""
        found = [k for k in self.kernels() if name and (k.name.startswith(name) or k.build_id.startswith(name))]
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
        """Take a kernel out of the store; damaged entries go by their folder's name."""
        folder = self.root / name
        if not (name and "/" not in name and folder.is_dir()):
            folder = self.find(name).folder
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(f"{folder}: cannot be removed ({error.strerror})") from None

    def add(
        self, path: Path, progress: Progress | None = None, beside: Callable[[KernelImage], None] | None = None
    ) -> StoredKernel:
        """Take in the kernel of a vmlinuz, .deb or .rpm: boot it and keep the booted state. `beside` is given the
        kernel before that, if it is not there already, to start work of its own.

        Raises KernelFileError, BootError or StoreError. A kernel that is there already is left as it is.
        """
        import zlib

        from hybridbridge_vol.image.kernel import KernelImage

        if progress:
            progress(0.0, "reading the kernel")
        kernel = KernelImage.from_file(path)
        name = f"{kernel.release}-{kernel.build_id[:12]}"
        target = self.root / name
        if (target / "kernel.json").exists():
            with contextlib.suppress(StoreError):
                stored = StoredKernel(target, files.unseal(target / "kernel.json"))
                if stored.boots():
                    return stored
        shutil.rmtree(target, ignore_errors=True)
        with _new_folder(self.root, name) as folder:
            if beside:
                beside(kernel)
            linked = kernel.symbols.address("_text") - RAM_SIZE, kernel.symbols.address("_end") + RAM_SIZE
            add_boot(folder, kernel, linked, progress)
            packed = kernel.symbols.pack()
            (folder / "symbols").write_bytes(packed)
            (folder / "vmlinuz").write_bytes(kernel.vmlinuz)
            record = {
                "format": files.FORMAT,
                "release": kernel.release,
                "banner": kernel.banner,
                "build_id": kernel.build_id,
                "created": time.time(),
                "text": kernel.symbols.address("_text"),
                "end": kernel.symbols.address("_end"),
                "banner_vaddr": kernel.symbols.address("linux_banner"),
                "probes": probe_sites(kernel),
                "symbols_checksum": zlib.crc32(packed),
            }
            (folder / "kernel.json").write_bytes(files.seal(record))
        stored = StoredKernel(target, files.unseal(target / "kernel.json"))
        stored._image = kernel
        return stored


PROBES = 256
"""Pointers compared to find by how much a kernel was shifted: a majority among so many is no accident."""


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
    return Entry(kernel.name, kernel.release, kernel.banner, kernel.build_id, size, kernel.created, len(boots))
