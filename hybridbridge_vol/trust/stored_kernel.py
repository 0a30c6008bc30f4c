"""One kernel of the store, and its booted states."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridbridge_vol.errors import StoreError
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.placement import Layout, overlap
from hybridbridge_vol.units import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hybridbridge_vol.kernel_file.kernel import KernelImage
    from hybridbridge_vol.kernel_file.symbols import Symbols


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
                    raise StoreError(
                        f"{path}: truncated; remove the entry with 'hb trust rm' and add the kernel again"
                    )
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
        self.unpacked: KernelImage | None = None
        """What `kernel_image` gives, once it is there."""

    @property
    def symbols(self) -> Symbols:
        """The kernel's symbol table (link-time addresses)."""
        if self._symbols is None:
            import zlib

            from hybridbridge_vol.kernel_file.symbols import Symbols

            path = self.folder / "symbols"
            try:
                packed = path.read_bytes()
            except OSError as error:
                raise StoreError(f"{path}: cannot be read ({error.strerror}); add the kernel again") from None
            if zlib.crc32(packed) != self._symbols_checksum:
                raise StoreError(
                    f"{path}: corrupt; remove the entry with 'hb trust rm' and add the kernel again"
                )
            self._symbols = Symbols.unpack(packed)
        return self._symbols

    def kernel_image(self) -> KernelImage:
        """The kernel file once more (a second: it is decompressed and decoded)."""
        if self.unpacked is None:
            from hybridbridge_vol.kernel_file.kernel import KernelImage

            self.unpacked = KernelImage.from_file(self.folder / "vmlinuz")
        return self.unpacked

    def boots(self) -> list[Boot]:
        """All booted states of this kernel."""
        return [_read_boot(folder) for folder in sorted(self.folder.glob("boot-*"))]

    def boot_clear_of(
        self, start_vaddr: int, end_vaddr: int, progress: Progress | None = None, levels: int = 4
    ) -> Boot:
        """A booted state with page tables of so many levels whose kernel image leaves that range of addresses
        free; booted anew if there is none."""
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
    entry: Path,
    kernel: KernelImage,
    avoid: tuple[int, int] | None = None,
    progress: Progress | None = None,
    levels: int = 4,
) -> Boot:
    """Boot `kernel` at a fresh layout and keep its state in the entry's folder."""
    from hybridbridge_vol.trust.boot import boot as boot_kernel
    from hybridbridge_vol.trust.placement import draw_layout

    symbols = kernel.symbols
    layout = draw_layout(symbols.address("_text"), symbols.address("_end"), avoid, levels=levels)
    booted = boot_kernel(kernel, layout, progress)
    with files.new_folder(entry, f"boot-{secrets.token_hex(4)}") as folder:
        extents = files.write_sparse(folder / "memory", booted.ram.view)
        record = {
            "format": files.FORMAT,
            "layout": [
                layout.kernel_delta,
                layout.page_offset_base,
                layout.vmalloc_base,
                layout.vmemmap_base,
                layout.levels,
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
