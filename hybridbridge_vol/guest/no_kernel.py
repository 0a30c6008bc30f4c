"""The error when no stored kernel fits an image: which kernel it has, or that none was found."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from hybridbridge_vol.errors import (
    AttachError,
    HybridBridgeError,
    KernelNotFound,
    KernelNotStored,
    OptionError,
    UnusableKernel,
)
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.memory_image.raw import lacks_its_hole
from hybridbridge_vol.snapshot.banner import banner_behind, scan_banners
from hybridbridge_vol.snapshot.choose_kernel import NoKernelThere, NoSoundKernel
from hybridbridge_vol.snapshot.foreign_memory import encrypted, other_processor
from hybridbridge_vol.snapshot.kernel_origin import package_of
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import Progress


def unknown_kernels(
    image: PhysicalImage, known: Iterable[str], progress: Progress | None = None
) -> list[str]:
    """The version lines in the image that are not among `known`, the likeliest first. The whole image is
    read."""
    stored = tuple(banner.strip() for banner in known)  # in the kernel's log more text may follow one
    return [banner for banner, _count in scan_banners(image, progress) if not banner.startswith(stored)]


def explain_unknown(
    image: PhysicalImage, store: Store, progress: Progress | None = None
) -> HybridBridgeError:
    """Scan the image for banners. The error to raise: KernelNotStored names the kernel and its package,
    KernelNotFound says that no kernel was found."""
    banners = scan_banners(image, progress)
    if not banners:
        why = encrypted(image) or "not a memory image of Linux, or truncated"
        return KernelNotFound(f"{image.path}: no Linux kernel in it; {why}")
    banner = banners[0][0]
    stored = [kernel for kernel in store.kernels() if kernel.banner.strip() == banner]
    if stored:
        return KernelNotFound(
            f"{image.path}: its kernel {stored[0].release} is in the store, but was not found where kernels "
            "load; "
            "the image is truncated, or its pages are out of place",
            banner,
        )
    for problem in store.problems():
        if banner.split()[2] in str(problem):
            return problem
    processor = other_processor(image, banner)
    if processor is not None:
        return UnusableKernel(
            f"{image.path}: its kernel {banner.split()[2]} is for {processor}; only kernels of 64-bit x86 "
            "(amd64) can be run, so nothing about this image can be answered",
            banner,
        )
    return _not_stored(image, store, banner)


def explain_unsound(
    image: PhysicalImage, store: Store, error: NoSoundKernel, progress: Progress | None = None
) -> HybridBridgeError:
    """The error to raise where no kernel that is stored can have run: KernelNotStored if the image names
    another one."""
    if lacks_its_hole(image):
        name, path = (shlex.quote(str(words)) for words in (image.path.name, image.path))
        return AttachError(
            f"{image.path}: a raw image in which memory beyond 4 GiB stands right behind that below; "
            f"give it a name that ends in .vmem, which is read so: 'ln -s {name} {path}.vmem'"
        )
    others = unknown_kernels(image, (kernel.banner for kernel in store.kernels()), progress)
    return (
        _not_stored(image, store, others[0], f" ({error})")
        if others
        else AttachError(f"{image.path}: {error}")
    )


def explain_not_there(image: PhysicalImage, store: Store, error: NoKernelThere) -> HybridBridgeError:
    """The error to raise where no kernel that is stored is at the address that was asked for: KernelNotStored
    if another one is."""
    banner = banner_behind(image, error.kernel_at)
    if banner is None or banner.startswith(tuple(kernel.banner.strip() for kernel in store.kernels())):
        return OptionError(f"{image.path}: {error}")
    return _not_stored(image, store, banner, asked=f" --kernel-at {error.kernel_at:#x}")


def _not_stored(
    image: PhysicalImage, store: Store, banner: str, because: str = "", asked: str = ""
) -> KernelNotStored:
    package = package_of(banner)
    where = f" --store {store.root}" if store.is_custom else ""
    command = f"hb trust get {shlex.quote(str(image.path))}{asked}{where}"
    way_out = (
        f"run '{command}', or fetch the package {package} and run"
        if package
        else "get this kernel's vmlinuz or package and run"
    )
    return KernelNotStored(
        f"{image.path}: no trusted kernel for {banner!r}; {way_out} 'hb trust add FILE{where}'{because}",
        banner,
    )
