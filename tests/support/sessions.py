"""Sessions of their own on the shared guests."""

from __future__ import annotations

from generations import Lab

from hybridbridge_vol.bridge.attach import attach
from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.memo_for_kernel import memo_key
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.find_kernel import find_kernel


def session_with(lab: Lab, generation: str, mode: Mode, memo: Memo | None = None) -> Session:
    """A session of its own, with a memo of its own: an empty one by default."""
    image = open_image(lab.sample(generation).dump)
    kernels = lab.store.kernels()
    hit = find_kernel(image, kernels)
    assert hit is not None
    kernel = kernels[hit[0]]
    empty = Memo(memo_key(kernel))
    return Session(attach(image, kernel, hit[1], memo=empty if memo is None else memo), mode)
