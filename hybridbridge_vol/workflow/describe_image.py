"""What `hb info` reports about an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from hybridbridge_vol.bridge.objects.moments import said_of
from hybridbridge_vol.errors import CallRolledBack, HybridBridgeError, KernelNotStored, UnusableKernel
from hybridbridge_vol.guest.session import Session, open_attached
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.kernel_origin import package_of
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import Progress
from hybridbridge_vol.workflow.missing_memory import missing_by_headers, missing_by_map

T = TypeVar("T")


@dataclass(frozen=True)
class SnapshotInfo:
    """What an image is. Addresses are physical (`_paddr`) or virtual (`_vaddr`) addresses of the guest; None
    where no trusted kernel fits, or where the image does not answer.

    `memory_bytes`: guest memory that the image holds. `missing`: physical ranges that the file lacks, of what
    its headers promise and of what the guest's kernel calls its memory, each with the reason. `left_out`:
    what the program that wrote the file left out on purpose. `state`: in which state the machine was.
    `notes`: what should be known of every answer about this image. `trusted_kernel`: the entry of the trust
    store that fits; `next_step`: what to do when none does. `kaslr_shift`: what KASLR added to the kernel's
    link-time addresses. `captured_at`: capture time by the guest's clock, in seconds since the epoch;
    `uptime`: seconds since boot."""

    path: str
    format: str
    size_bytes: int
    memory_bytes: int
    missing: tuple[str, ...]
    left_out: str | None
    banner: str
    package: str | None
    trusted_kernel: str | None = None
    next_step: str | None = None
    text_paddr: int | None = None
    text_vaddr: int | None = None
    kaslr_shift: int | None = None
    state: str | None = None
    page_table_levels: int | None = None
    page_table_paddr: int | None = None
    direct_map_vaddr: int | None = None
    vmalloc_vaddr: int | None = None
    vmemmap_vaddr: int | None = None
    cpus: int | None = None
    stopped_cpus: tuple[int, ...] = ()
    captured_at: float | None = None
    uptime: float | None = None
    hostname: str | None = None
    notes: tuple[str, ...] = ()


def describe(
    path: Path | str,
    store: Path | None = None,
    progress: Progress | None = None,
    kernel_at: int | None = None,
) -> SnapshotInfo:
    """Identify an image; `store` is the root of a trust store (None: the user's own), `kernel_at` the
    physical address of a kernel in it (None: the one that ran).

    A kernel that is not stored is not an error. ImageError if the file is not a memory image or holds no
    Linux kernel.
    """
    with open_image(path, progress) as image:
        try:
            session = open_attached(image, Store(store), progress, kernel_at=kernel_at)
        except KernelNotStored as error:
            return replace(_of_file(image, error.banner), next_step=str(error))
        except UnusableKernel as error:
            return replace(_of_file(image, error.banner or ""), package=None, next_step=str(error))
        with session:
            return facts_of(session)


def facts_of(session: Session) -> SnapshotInfo:
    """The same about an image that is open."""
    bridge = session.bridge
    layout = bridge.layout
    facts = _of_file(bridge.image, bridge.kernel.banner.strip())
    missing, note = missing_by_map(session)
    return replace(
        facts,
        missing=(*facts.missing, *map(str, missing)),
        notes=(*session.notes, *filter(None, (note, said_of(bridge, quickly=True)))),
        state=str(bridge.state),
        trusted_kernel=bridge.kernel.name,
        text_paddr=layout.text_paddr,
        text_vaddr=layout.text_vaddr,
        kaslr_shift=layout.shift,
        page_table_levels=layout.levels,
        page_table_paddr=layout.root_paddr,
        direct_map_vaddr=layout.page_offset_base,
        vmalloc_vaddr=layout.vmalloc_base,
        vmemmap_vaddr=layout.vmemmap_base,
        cpus=layout.cpus,
        stopped_cpus=layout.stopped_cpus,
        captured_at=_answer(session.clocks.realtime),
        uptime=_answer(session.clocks.boottime),
        hostname=_answer(lambda: session.system.uname().nodename),
    )


def _of_file(image: PhysicalImage, banner: str) -> SnapshotInfo:
    return SnapshotInfo(
        path=str(image.path),
        format=image.format_name,
        size_bytes=image.file_size,
        memory_bytes=image.memory_size,
        missing=tuple(map(str, missing_by_headers(image))),
        left_out=image.left_out,
        banner=banner,
        package=package_of(banner),
    )


def _answer(question: Callable[[], T]) -> T | None:
    """An answer of the guest's kernel; None where it cannot give one."""
    try:
        return question()
    except (OSError, CallRolledBack, HybridBridgeError):
        return None
