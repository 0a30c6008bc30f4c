"""What a file is, cheaply: a memory image or not, and which trusted kernel fits. No session is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hybridbridge_vol.errors import (
    AttachError,
    HybridBridgeError,
    KernelNotFound,
    KernelNotStored,
    error_text,
)
from hybridbridge_vol.guest.no_kernel import explain_not_there, explain_unknown
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.choose_kernel import NoKernelThere, choose_kernel
from hybridbridge_vol.snapshot.find_kernel import find_kernels
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.trust.stored_kernel import StoredKernel

IMAGE_SUFFIXES = frozenset((".raw", ".lime", ".mem", ".vmem", ".avml", ".kdump", ".vmcore", ".dump"))
_HEAD = 4096


@dataclass(frozen=True)
class Identity:
    """What a file is. `kernel`: the entry of the trust store that fits; where there is none, `error` says in
    one line why and what to do. `is_image`: whether the file is a memory image of Linux, or may be one as far
    as could be found out."""

    path: str
    kernel: str | None = None
    error: str | None = None
    is_image: bool = False
    format: str | None = None
    banner: str | None = None
    release: str | None = None


def claims_to_be_image(path: str) -> bool:
    """Whether the file's name says that it is a memory image: if it cannot be read, that is worth an error
    message."""
    return not IMAGE_SUFFIXES.isdisjoint(suffix.lower() for suffix in Path(path).suffixes)


def is_text(path: str) -> bool:
    """Whether a file looks like a log or a list, in which a kernel's banner means nothing."""
    try:
        with open(path, "rb") as stream:
            return b"\0" not in stream.read(_HEAD)
    except OSError:
        return False


def identify(path: str, store: str | None, kernel_at: int | None = None) -> Identity:
    """Identify one file, of several kernels by the one at the physical address `kernel_at`; what is wrong
    with it is in the answer, nothing is raised."""
    try:
        image = open_image(path)
    except (HybridBridgeError, OSError) as error:
        return Identity(path, error=error_text(error, path))
    with image:
        try:
            return _identify(path, image, Store(Path(store) if store else None), kernel_at)
        except (HybridBridgeError, OSError) as error:
            return Identity(path, error=error_text(error, path), is_image=True, format=image.format_name)


def _kernel_of(image: PhysicalImage, kernels: list[StoredKernel], kernel_at: int | None) -> int | None:
    """The number of the kernel that ran, or of the first found if none of them is sound: the examination says
    so then. NoKernelThere if there is none at the address."""
    try:
        choice = choose_kernel(image, kernels, kernel_at)
        return None if choice is None else choice.chosen.index
    except AttachError:
        return next((index for index, _found in find_kernels(image, kernels)), None)


def _identify(path: str, image: PhysicalImage, store: Store, kernel_at: int | None) -> Identity:
    kernels = store.kernels()
    missed = None
    try:
        index = _kernel_of(image, kernels, kernel_at)
    except NoKernelThere as error:
        index, missed = None, error
    if index is not None:
        kernel = kernels[index]
        return Identity(
            path, kernel.name, None, True, image.format_name, kernel.banner.strip(), kernel.release
        )
    raw = image.format_name == "raw"
    if raw and not claims_to_be_image(path) and is_text(path):
        return Identity(path, error=f"{path}: a text file, not a memory image")
    problem = _problem(image, store, missed)
    banner = problem.banner.strip() if isinstance(problem, KernelNotStored) else None
    has_kernel = not isinstance(problem, KernelNotFound) or problem.banner is not None
    return Identity(
        path,
        error=error_text(problem, path),
        is_image=has_kernel or not raw,
        format=image.format_name,
        banner=banner,
        release=banner.split()[2] if banner else None,
    )


def _problem(image: PhysicalImage, store: Store, missed: NoKernelThere | None) -> HybridBridgeError:
    """Why no stored kernel fits. That none is at the address is said of an image that has one elsewhere."""
    there = None if missed is None else explain_not_there(image, store, missed)
    if isinstance(there, KernelNotStored):
        return there
    problem = explain_unknown(image, store)
    is_foreign = isinstance(problem, KernelNotFound) and problem.banner is None
    return problem if there is None or is_foreign else there
