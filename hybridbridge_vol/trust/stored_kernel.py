"""One kernel of the store, and its booted states."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import zlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hybridbridge_vol.errors import BootError, BootNeeded, StoreError
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.machine.cpu import CpuState
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.snapshot.machine_state import running_constant
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.placement import (
    KERNEL_IMAGE_SIZE,
    Layout,
    draw_layout,
    looks_like_other_words,
    looks_like_pointers,
    overlap,
)
from hybridbridge_vol.units import START_KERNEL_MAP, Progress

if TYPE_CHECKING:
    from hybridbridge_vol.kernel_file.kernel import KernelImage
    from hybridbridge_vol.kernel_file.relocations import Relocations

_LONGEST_FUNCTION = 1 << 16
RELOCATIONS = "relocations"
"""The file with a kernel's relocations, where they had to be recovered."""


class Boot(NamedTuple):
    """One booted state of a kernel, as stored in `folder`: where it lies, the CPU's registers, its memory."""

    folder: Path
    layout: Layout
    return_vaddr: int
    state: CpuState
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
    """A kernel of the store, opened for use; cheap until something is asked of it.

    `record` is what its manifest holds; `image` the kernel file, where it is unpacked already.
    """

    def __init__(self, folder: Path, record: files.Record, image: KernelImage | None = None) -> None:
        self.folder = folder
        self.name = folder.name
        self.release: str = record["release"]
        self.banner: str = record["banner"]
        self.build_id: str = record["build_id"]
        self.created: float = record["created"]
        self.text_link_vaddr: int = record["text"]
        self.end_link_vaddr: int = record["end"]
        self.banner_link_vaddr: int = record["banner_vaddr"]
        self.region_bases: list[int] = record.get("region_bases", [])
        """Where the kernel was linked to have its direct map, vmalloc area and memory map; empty if they are
        variables."""
        self.modules_vaddr: int = record.get("modules", START_KERNEL_MAP + KERNEL_IMAGE_SIZE)
        """Where the area of its modules begins; kernels that were added before this was looked for have it
        where those with CONFIG_RANDOMIZE_BASE do."""
        self.probes: list[tuple[int, int]] = [(offset, value) for offset, value in record["probes"]]
        self._symbols_checksum: int = record["symbols_checksum"]
        self._image = image

    @property
    def size(self) -> int:
        """Bytes of the kernel image, from `_text` to `_end`."""
        return self.end_link_vaddr - self.text_link_vaddr

    @property
    def text_paddr(self) -> int:
        """Where `_text` lies in the RAM of every boot: where it was linked to be loaded."""
        return self.text_link_vaddr - START_KERNEL_MAP

    @cached_property
    def symbols(self) -> Symbols:
        """The kernel's symbol table (link-time addresses)."""
        path = self.folder / "symbols"
        try:
            packed = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}); add the kernel again") from None
        if zlib.crc32(packed) != self._symbols_checksum:
            raise StoreError(f"{path}: corrupt; remove the entry with 'hb trust rm' and add the kernel again")
        return Symbols.unpack(packed)

    def booted_function(self, name: str) -> tuple[int, bytes]:
        """A function's link-time address and its code, as booted; both empty if the kernel has none of this
        name."""
        vaddr, boots = self.symbols.get(name), self.boots()
        if vaddr is None or not boots:
            return 0, b""
        end = self.symbols.next_address(vaddr) or vaddr
        start = self.text_paddr + vaddr - self.text_link_vaddr
        return vaddr, bytes(boots[0].map_memory().view[start : start + min(end - vaddr, _LONGEST_FUNCTION)])

    @cached_property
    def running_constant(self) -> int | None:
        """What `system_state` is while the kernel runs."""
        vaddr, code = self.booted_function("kernel_init")
        return running_constant(code, vaddr, self.symbols.get("system_state") or 0)

    def kernel_image(self) -> KernelImage:
        """The kernel file once more (a second: it is decompressed and decoded)."""
        if self._image is None:
            # not needed to answer about a snapshot, and takes 40 ms
            from hybridbridge_vol.kernel_file.kernel import KernelImage, StoredParts

            stored = StoredParts(self.symbols, self._relocations())
            self._image = KernelImage.from_file(self.folder / "vmlinuz", stored=stored)
        return self._image

    def _relocations(self) -> Relocations | None:
        """Those that were recovered when the kernel was added; None if its file has its own."""
        from hybridbridge_vol.kernel_file.relocations import Relocations

        path = self.folder / RELOCATIONS
        try:
            return Relocations.unpack(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RuntimeError, struct.error):
            raise StoreError(
                f"{path}: corrupt; remove the entry with 'hb trust rm' and add the kernel again"
            ) from None

    def boots(self) -> list[Boot]:
        """All booted states of this kernel."""
        return [_read_boot(folder) for folder in sorted(self.folder.glob("boot-*"))]

    def boot_clear_of(
        self, start_vaddr: int, end_vaddr: int, progress: Progress | None = None, levels: int = 4
    ) -> Boot:
        """A booted state with page tables of so many levels whose kernel image leaves that range of addresses
        free; booted anew if there is none. One whose addresses look like other words is taken only if there
        are more of them, or if the store cannot be written. BootNeeded if there is none then."""
        spare = []
        for boot in self.boots():
            text = self.text_link_vaddr + boot.layout.kernel_delta
            image = range(text, text + self.size)
            if boot.layout.levels != levels or overlap(image.start, image.stop, start_vaddr, end_vaddr):
                continue
            link, avoid = range(self.text_link_vaddr, self.end_link_vaddr), (start_vaddr, end_vaddr)
            if not (
                looks_like_other_words(image, link) or looks_like_pointers(boot.layout, avoid, self.size)
            ):
                return boot
            spare.append(boot)
        if len(spare) > 1:
            return spare[0]
        try:
            files.temporary_folder(self.folder).rmdir()  # a boot takes seconds
        except StoreError as error:
            if spare:
                return spare[0]
            raise BootNeeded(str(error), self.name, start_vaddr, end_vaddr, levels) from None
        return add_boot(self.folder, self.kernel_image(), (start_vaddr, end_vaddr), progress, levels)


def _read_boot(folder: Path) -> Boot:
    path = folder / "boot.json"
    record = files.read_manifest(path)
    try:
        state = CpuState.from_record(record["state"])
    except (KeyError, TypeError, ValueError):
        raise StoreError(
            f"{path}: not a booted state that this version can use; add the kernel again with 'hb trust add'"
        ) from None
    return Boot(
        folder,
        Layout(*record["layout"]),
        record["return_vaddr"],
        state,
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
    """Boot `kernel` at a fresh layout, whose kernel image stays out of the range `avoid` of addresses, and
    keep its state in the entry's folder."""
    # most runs boot nothing, and it takes 40 ms with `kernel_file.kernel`
    from hybridbridge_vol.kernel_file.region_constants import ALIGNMENT
    from hybridbridge_vol.trust.boot import boot as boot_kernel

    symbols = kernel.symbols
    try:
        layout = draw_layout(
            symbols.address("_text"), symbols.address("_end"), avoid, levels=levels,
            mapped_size=kernel.mapped_size, fixed_steps=ALIGNMENT if kernel.region_constants else None,
        )  # fmt: skip
    except ValueError:
        raise BootError(
            f"{kernel.path}: its addresses have no room for a second such kernel beside the snapshot's"
        ) from None
    booted = boot_kernel(kernel, layout, progress)
    final = entry / f"boot-{os.urandom(4).hex()}"
    with files.new_folder(final) as folder:
        extents = files.write_sparse(folder / "memory", booted.ram.view)
        record = {
            "format": files.FORMAT,
            "layout": [*layout],
            "return_vaddr": booted.return_vaddr,
            "state": booted.machine.save_state().record(),
            "extents": extents,
            "memory_size": booted.ram.size,
            "memory_checksum": files.checksum(booted.ram.view, extents),
        }
        (folder / "boot.json").write_bytes(files.manifest(record))
    return _read_boot(final)
