"""Preparing a bridge for a booted kernel, once: stored, found again, made again when it is damaged."""

from __future__ import annotations

from typing import Any

import pytest

from hybridbridge_vol.bridge.text import derive as deriving
from hybridbridge_vol.bridge.text import prepared_file
from hybridbridge_vol.bridge.text.prepare import load_or_error, prepare
from hybridbridge_vol.bridge.text.prepared import RELOCATIONS
from hybridbridge_vol.errors import StoreError

Lab = Any


def test_what_is_stored_is_used_and_what_is_damaged_is_made_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = lab.session("6.1 two CPUs").bridge
    (path,) = bridge.boot.folder.glob("prepared-*")
    stored = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.delattr(deriving, "derive")
        assert prepare(bridge.kernel, bridge.boot) == bridge.prepared
    path.write_bytes(stored[:-4])
    assert prepare(bridge.kernel, bridge.boot) == bridge.prepared
    assert path.read_bytes() == stored


def test_a_kernel_without_a_symbol_that_is_needed_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = lab.session("6.1 two CPUs").bridge
    monkeypatch.setattr(deriving, "_NEEDED", ("no_such_symbol",))
    monkeypatch.setattr(prepared_file, "FORMAT", 0)  # nothing is stored
    with pytest.raises(
        StoreError, match=rf"{bridge.kernel.name}: this kernel has no symbol 'no_such_symbol'"
    ):
        load_or_error(bridge.kernel, bridge.boot)


def test_each_kernel_has_thousands_of_everything(lab: Lab, generation: str) -> None:
    prepared = lab.session(generation).bridge.prepared
    assert [(sites.step, sites.size) for sites in prepared.sites] == list(RELOCATIONS.values())
    assert len(prepared.sites[0].offsets) > 10_000
    assert len(prepared.trampolines) > 1_000
    assert len(prepared.fixups) > 300
    assert len(prepared.warnings) > 3_000
    assert len(prepared.caches) > 100
    for ascending in (*(sites.offsets for sites in prepared.sites), prepared.fixups, prepared.warnings):
        assert list(ascending) == sorted(ascending)
