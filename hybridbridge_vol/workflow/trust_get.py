"""From an image to its trusted kernel: which kernel it is, its packages by the distribution's own client, the
proof that they hold that kernel, and the store."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hybridbridge_vol.errors import FetchError, KernelFileError, KernelNotStored
from hybridbridge_vol.guest.session import open_attached
from hybridbridge_vol.kernel_file import packages
from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.kernel_origin import origin_of
from hybridbridge_vol.trust import modules
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import Progress, part_of
from hybridbridge_vol.workflow.fetch import debuginfod
from hybridbridge_vol.workflow.fetch.fetch_kernel import fetch_packages
from hybridbridge_vol.workflow.trust_kernel import enroll


@dataclass(frozen=True)
class Gotten:
    """The entry of the store that fits, and the files that were fetched for it; none if it was stored
    already. `checked` says who answers for them."""

    name: str
    files: tuple[str, ...] = ()
    checked: str = ""

    def __str__(self) -> str:
        if not self.files:
            return f"{self.name}: stored already"
        return f"{self.name}: trusted, from {', '.join(self.files)} ({self.checked})"


def trust_kernel_of(
    store: Store, path: Path | str, progress: Progress | None = None, kernel_at: int | None = None
) -> Gotten:
    """Trust the kernel of an image, of several the one at the physical address `kernel_at`. Raises as
    `open_session`, but for KernelNotStored; FetchError; and as `enroll`."""
    with open_image(path, progress) as image:
        try:
            session = open_attached(image, store, progress, kernel_at=kernel_at)
        except KernelNotStored as error:
            banner = error.banner
        else:
            with session:
                return Gotten(session.bridge.kernel.name)
    return trust_banner(store, banner, progress, path)


def trust_banner(
    store: Store, banner: str, progress: Progress | None = None, image: Path | str | None = None
) -> Gotten:
    """Trust the kernel whose version line this is, in an image if that is here. FetchError, with the way out,
    if its packages cannot be had or are of another build; raises as `enroll`."""
    stored = [kernel for kernel in store.kernels() if kernel.banner.strip() == banner.strip()]
    if stored:
        return Gotten(stored[0].name)
    with tempfile.TemporaryDirectory(prefix="hybridbridge-") as scratch:
        files, checked = _fetched(banner, Path(scratch), image, part_of(progress, 0.0, 0.5))
        kernel = _kernel_among(files, banner)
        entry = enroll(store, kernel, part_of(progress, 0.5, 0.9))
        for other in files:
            if other != kernel and _has_modules(other):
                enroll(store, other, part_of(progress, 0.9, 1.0))
        return Gotten(entry.name, tuple(file.name for file in files), checked)


def _fetched(
    banner: str, folder: Path, image: Path | str | None, progress: Progress | None
) -> tuple[list[Path], str]:
    """The files of a kernel, and who checked their signatures. FetchError."""
    try:
        origin = origin_of(banner)
        if origin is None:
            raise FetchError(
                f"{banner.strip()!r} does not name a distribution; get this kernel's own vmlinuz and run "
                "'hb trust add FILE'"
            )
        return fetch_packages(origin, folder, progress), f"signatures checked by {origin.client}"
    except FetchError as error:
        if image is None or not debuginfod.servers():
            raise
        with open_image(image) as opened:
            build_id = debuginfod.build_id_of(opened, banner.split()[2])
        if build_id is None:
            raise
        try:
            return [debuginfod.fetch_by_build_id(build_id, folder)], "from debuginfod, which signs nothing"
        except FetchError as other:
            raise FetchError(f"{error}; {other}") from None


def _kernel_among(files: list[Path], banner: str) -> Path:
    """The package with the kernel of that version line. FetchError if theirs is another."""
    found = []
    for file in files:
        try:
            kernel = KernelImage.from_file(file)
        except KernelFileError:
            continue
        if kernel.banner.strip() == banner.strip():
            return file
        found.append(f"{file.name} has {kernel.banner.strip()!r}")
    if not found:
        raise FetchError(f"none of {', '.join(file.name for file in files)} has a kernel that can be used")
    raise FetchError(f"another build: {'; '.join(found)}, the image {banner.strip()!r}; nothing was added")


def _has_modules(file: Path) -> bool:
    return any(True for _member in packages.members(file, *modules.PATTERNS))
