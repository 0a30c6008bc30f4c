"""owner: whose memory a physical address is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import chosen
from hybridbridge_vol.units import PAGE_SIZE

if TYPE_CHECKING:
    from hybridbridge_vol.memory_image.physical import PhysicalImage

MAX_ADDRESSES = 4096


class Owner(Tool):
    name = "owner"
    help = "Whose memory a physical address, or an offset in the image, is: processes, file, slab, free"
    notes = (
        "For what a search of the whole image has found: one row for each process that has the page mapped, "
        "or for the file of the page cache that it holds; else what the kernel uses it for. FLAGS are those "
        "of /proc/kpageflags."
    )
    example = "0x1000000"
    options = (
        Option(
            "address", str, "physical addresses, in decimal or with 0x; several separated by commas",
            positional=True,
        ),
        Option("offset", bool, "they are offsets in the image file"),
    )  # fmt: skip
    columns = (
        Column("PADDR", "hex", "physical address"),
        Column("OFFSET", "hex", "offset in the image file; nothing where that is compressed"),
        Column("KIND", "str", "process, file, slab, page table, kernel, anonymous (of no process), free"),
        Column("PID", "int", "process id"),
        Column("COMM", "str", "name of the executable, as the kernel stores it"),
        Column("AT", "hex", "address in the process, or offset in the file"),
        Column("PATH", "str", "the file, or what the mapping is of"),
        Column("FLAGS", "str", "what the kernel notes of the page"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.physical_memory.process_frames import frames_of

        image = kernel.bridge.image
        addresses = list(_addresses(options["address"], image if options["offset"] else None))
        processes = list(frames_of(kernel, chosen(kernel, {"pid": ()})))
        kernel.progress(1, "searching the pages of processes")
        found: dict[int, list[tuple[object, ...]]] = {}
        wanted = {paddr // PAGE_SIZE for paddr in addresses}
        for process in processes:
            for frame, vaddr in process.vaddrs_of(wanted):
                path = next(
                    it.mapping.path
                    for it in process.mapped
                    if it.mapping.start_vaddr <= vaddr < it.mapping.end_vaddr
                )
                found.setdefault(frame, []).append(
                    ("process", process.pid, process.comm, vaddr, path or None)
                )
        yield from _rows(kernel, addresses, found)


def _rows(
    kernel: GuestKernel, addresses: list[int], found: dict[int, list[tuple[object, ...]]]
) -> Iterator[Row]:
    from hybridbridge_vol.tools.physical_memory.page_kind import flags_of, in_words, kind_of

    image = kernel.bridge.image
    files = None
    for paddr in addresses:
        frame, rest = divmod(paddr, PAGE_SIZE)
        place = (paddr, image.offset_of(paddr))
        flags = flags_of(kernel.files, frame)
        words = flags if isinstance(flags, Unavailable) else in_words(flags)
        kind = kind_of(flags)
        if not kernel.addresses.in_image(paddr, 1):
            words = Unavailable(f"not in the image: {image.why_absent(paddr)}")
        for what, pid, comm, vaddr, path in found.get(frame, []):
            yield Row((*place, what, pid, comm, vaddr + rest, path, words))  # type: ignore[arg-type, operator]
        if frame in found:
            continue
        if kind == "file":
            files = files if files is not None else _file_index(kernel)
            if isinstance(files, Unavailable):
                yield Row((*place, kind, None, None, None, files, words))
                continue
            path, offset = files.get(frame, (None, None))
            yield Row((*place, kind, None, None, None if offset is None else offset + rest, path, words))
            continue
        yield Row((*place, kind, None, None, None, None, words))


def _file_index(kernel: GuestKernel) -> dict[int, tuple[str, int]] | Unavailable:
    """The file and the offset in it by the physical page that holds it."""
    from hybridbridge_vol.tools.physical_memory.cached_files import cached_files

    found: dict[int, tuple[str, int]] = {}
    try:
        for file in cached_files(kernel):
            if not isinstance(file, Unavailable):
                for item in file.ranges:
                    for at in range(0, item.size, PAGE_SIZE):
                        found.setdefault((item.paddr + at) // PAGE_SIZE, (file.path, item.offset + at))
    except UNREADABLE as error:
        return why("the kernel's list of inodes", error)
    kernel.progress(1, "searching the pages of files")
    return found


def _addresses(text: str, image: PhysicalImage | None) -> Iterator[int]:
    """The physical addresses that an option names; OptionError."""
    words = text.split(",")[:MAX_ADDRESSES]
    for word in words:
        try:
            number = int(word, 0)
        except ValueError:
            raise OptionError(f"{word!r}: not a number") from None
        if number < 0 or number >> 52:
            raise OptionError(f"{word}: no physical address")
        if image is None:
            yield number
            continue
        paddr = next(
            (
                start + number - offset
                for start, size in image.ranges
                if (offset := image.offset_of(start)) is not None and offset <= number < offset + size
            ),
            None,
        )
        if paddr is None:
            raise OptionError(f"--offset {word}: no memory of the guest is at that offset of {image.path}")
        yield paddr


TOOL = Owner()
