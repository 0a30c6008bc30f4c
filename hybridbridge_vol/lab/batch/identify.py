"""What a file is, cheaply: an image or none, and which trusted kernel fits. No session is opened."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hybridbridge_vol.errors import HybridBridgeError, KernelNotFound, KernelNotStored
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.toolkit.tool import error_text

STEP = "identifying"
IMAGE_SUFFIXES = frozenset((".raw", ".lime", ".mem", ".vmem", ".avml", ".kdump", ".vmcore", ".dump"))
_HEAD = 4096


@dataclass(frozen=True)
class Identity:
    """`kernel` is the trust store's entry; where there is none, `error` says in one line why and what to do.
    `is_image`: whether the file is a memory image of Linux, or may be one as far as could be told."""

    path: str
    kernel: str | None = None
    error: str | None = None
    is_image: bool = False
    format: str | None = None
    banner: str | None = None
    release: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def claims_to_be_image(path: str) -> bool:
    """Whether the file's name says that it is a memory image: one that cannot be read is worth a word
    then."""
    return not IMAGE_SUFFIXES.isdisjoint(suffix.lower() for suffix in Path(path).suffixes)


def is_text(path: str) -> bool:
    """Whether a file looks like a log or a list, in which a kernel's banner means nothing."""
    try:
        with open(path, "rb") as stream:
            return b"\0" not in stream.read(_HEAD)
    except OSError:
        return False


def identify(path: str, store: str | None) -> Identity:
    """Identify one file; what is wrong with it is told, not raised."""
    from hybridbridge_vol.guest.no_kernel import explain_unknown
    from hybridbridge_vol.snapshot.find_kernel import find_kernel
    from hybridbridge_vol.trust.store import Store

    try:
        image = open_image(path)
    except (HybridBridgeError, OSError) as error:
        return Identity(path, error=error_text(error, path))
    with image:
        shape, raw = image.format_name, image.format_name == "raw"
        try:
            trusted = Store(Path(store) if store else None)
            kernels = trusted.kernels()
            hit = find_kernel(image, kernels)
            if hit is not None:
                kernel = kernels[hit[0]]
                return Identity(path, kernel.name, None, True, shape, kernel.banner.strip(), kernel.release)
            if raw and not claims_to_be_image(path) and is_text(path):
                return Identity(path, error=f"{path}: a text file, not a memory image")
            problem = explain_unknown(image, trusted)
        except (HybridBridgeError, OSError) as error:
            return Identity(path, error=error_text(error, path), is_image=True, format=shape)
    banner = problem.banner.strip() if isinstance(problem, KernelNotStored) else None
    found = not isinstance(problem, KernelNotFound) or "is in the store" in str(problem)
    return Identity(
        path,
        None,
        error_text(problem, path),
        found or not raw,
        shape,
        banner,
        banner.split()[2] if banner else None,
    )
