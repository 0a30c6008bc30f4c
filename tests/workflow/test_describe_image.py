"""What `hb info` reports about an image, and what it leaves behind."""

from __future__ import annotations

import pytest
from generations import Lab

from hybridbridge_vol.bridge import memo as memos
from hybridbridge_vol.bridge.memo_store import memo_key
from hybridbridge_vol.workflow.describe_image import describe


def test_what_was_proven_for_it_is_kept(lab: Lab) -> None:
    """The next look at an image of this kernel does not prove the same code again."""
    dump = lab.sample("6.12").dump
    (kernel,) = (kernel for kernel in lab.store.kernels() if kernel.release.startswith("6.12"))
    path = memos.memo_path(kernel.folder, memo_key(kernel))
    trained = path.read_bytes()
    path.unlink()
    try:
        facts = describe(dump, lab.store.root)
        assert facts.captured_at is not None and facts.hostname is not None
        assert list(memos.load(kernel.folder, memo_key(kernel)).text.ranges())
    finally:
        path.write_bytes(trained)


def test_the_image_is_closed_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from hybridbridge_vol.memory_image.physical import PhysicalImage

    opened: list[PhysicalImage] = []
    close = PhysicalImage.close
    monkeypatch.setattr(PhysicalImage, "close", lambda image: opened.append(image) or close(image))
    describe(lab.sample("6.12").dump, lab.store.root)
    assert opened and all(image._fd < 0 for image in opened)
