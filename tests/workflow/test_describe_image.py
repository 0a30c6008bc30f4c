"""What `hb info` finds out about a real image, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from generations import Lab
from store_copies import copy_without_memos

from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.describe_image import describe
from hybridbridge_vol.workflow.memos import summarise

NAME = "6.1 two CPUs"


@pytest.fixture
def untrained(lab: Lab, tmp_path: Path) -> Store:
    """A store of its own, in which nothing is proven about the image's kernel."""
    kernel = lab.kernel(NAME)
    store = Store(tmp_path / "store")
    copy_without_memos(kernel, store)
    assert [entry.code_bytes for entry in summarise(store, None)] == [0]
    return store


def test_what_is_proven_while_an_image_is_described_is_kept(lab: Lab, untrained: Store) -> None:
    facts = describe(lab.sample(NAME).dump, untrained.root)
    assert facts.hostname and facts.captured_at and facts.cpus == 2
    (entry,) = summarise(untrained, None)
    assert entry.code_bytes > 0 and not entry.problem
