"""What `hb info` shows of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hybridbridge_vol.errors import CallRolledBack, HybridBridgeError, KernelNotStored
from hybridbridge_vol.guest.session import Session, open_attached
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.banner import package_of
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class SnapshotInfo:
    """What an image is. Addresses as their suffixes say; None where no trusted kernel is stored that
    could answer.

    `captured_at`: seconds since the epoch by the snapshot's own clock; `uptime`: seconds since boot.
    `missing`: physical ranges that the headers promise and the file lacks. `trusted_kernel`: the store's
    entry that fits; `next_step`: what to do when there is none.
    """

    path: str
    format: str
    size_bytes: int
    memory_bytes: int
    missing: tuple[str, ...]
    banner: str | None
    package: str | None
    trusted_kernel: str | None
    next_step: str | None
    text_paddr: int | None = None
    text_vaddr: int | None = None
    kaslr_shift: int | None = None
    page_table_levels: int | None = None
    page_table_paddr: int | None = None
    direct_map_vaddr: int | None = None
    vmalloc_vaddr: int | None = None
    vmemmap_vaddr: int | None = None
    cpus: int | None = None
    captured_at: float | None = None
    uptime: float | None = None
    hostname: str | None = None


def describe(path: Path | str, store: Path | None = None, progress: Progress | None = None) -> SnapshotInfo:
    """Identify an image. ImageError if the file is not one or holds no Linux kernel; a kernel that is not
    stored is not an error."""
    with open_image(path, progress) as image:
        try:
            session = open_attached(image, Store(store), progress)
        except KernelNotStored as error:
            return _describe(image, None, error.banner, str(error))
        try:
            return facts_of(session)
        finally:
            session.bridge.close()


def facts_of(session: Session) -> SnapshotInfo:
    """The same of an image that is attached."""
    return _describe(session.bridge.image, session, session.bridge.kernel.banner.strip(), None)


def _describe(
    image: PhysicalImage, session: Session | None, banner: str, next_step: str | None
) -> SnapshotInfo:
    common = {
        "path": str(image.path),
        "format": image.format_name,
        "size_bytes": image.file_size,
        "memory_bytes": image.memory_size,
        "missing": tuple(f"{start:#x}-{start + size - 1:#x}" for start, size in image.missing),
        "banner": banner,
        "package": package_of(banner),
        "next_step": next_step,
    }
    if session is None:
        return SnapshotInfo(trusted_kernel=None, **common)  # type: ignore[arg-type]
    layout = session.bridge.layout
    return SnapshotInfo(
        trusted_kernel=session.bridge.kernel.name,
        text_paddr=layout.text_paddr,
        text_vaddr=layout.text_vaddr,
        kaslr_shift=layout.shift,
        page_table_levels=layout.levels,
        page_table_paddr=layout.root_paddr,
        direct_map_vaddr=layout.page_offset_base,
        vmalloc_vaddr=layout.vmalloc_base,
        vmemmap_vaddr=layout.vmemmap_base,
        cpus=layout.cpus,
        captured_at=_asked(session.realtime),
        uptime=_asked(session.boottime),
        hostname=_asked(lambda: session.uname().nodename),
        **common,  # type: ignore[arg-type]
    )


def _asked(question: Callable[[], T]) -> T | None:
    """An answer of the snapshot's kernel, None where it cannot give one."""
    try:
        return question()
    except (OSError, CallRolledBack, HybridBridgeError):
        return None
