"""Linked modules: kept as they are, damage is noticed, and what they say is what the file says."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from generations import Lab
from hypothesis import given
from hypothesis import strategies as st
from victims import NAME

from hybridbridge_vol.check.modules import module_store
from hybridbridge_vol.check.modules.code_references import cleared_slots
from hybridbridge_vol.check.modules.link import link
from hybridbridge_vol.check.modules.linked_module import TEXT, LinkedModule, columns
from hybridbridge_vol.check.modules.module_store import linked_modules, packed, unpacked
from hybridbridge_vol.kernel_file.module import ModuleFile
from hybridbridge_vol.trust import modules

SOME = ("bridge", "nf_conntrack", "xfs")


def file_of(lab: Lab, name: str) -> ModuleFile:
    """A module's trusted file."""
    file = modules.load(lab.session(NAME).bridge.kernel.folder, name)
    assert file is not None
    return file


def equal(one: LinkedModule, other: LinkedModule) -> bool:
    """Whether two are the same, column by column."""
    left, right = (
        [column for part in (*each.segments, each.sites) for column in columns(part)] for each in (one, other)
    )
    same = all(np.array_equal(*pair) for pair in zip(left, right, strict=True))
    plain = [item.name for item in fields(LinkedModule) if item.name not in ("segments", "sites")]
    return same and all(getattr(one, name) == getattr(other, name) for name in plain)


@pytest.mark.parametrize("name", SOME)
def test_a_linked_module_is_packed_without_loss(lab: Lab, name: str) -> None:
    module = link(name, file_of(lab, name))
    assert equal(unpacked(packed(module)), module)


@pytest.mark.parametrize("name", SOME)
def test_its_code_refers_to_what_the_files_relocations_say(lab: Lab, name: str) -> None:
    file = file_of(lab, name)
    module = link(name, file)
    layout = file.text_layout()[0]
    wanted = sorted(
        (layout[section] + item.offset, file.symbol(item.symbol).name)
        for section in layout
        for item in file.relocations(section)
        if file.symbol(item.symbol).section == 0 and file.symbol(item.symbol).name != "__fentry__"
    )
    code = module.segments[TEXT]
    found = sorted(
        (offset, module.imports[target - module.absolute - 1])
        for offset, target in zip(code.offsets.tolist(), code.targets.tolist(), strict=True)
        if target > module.absolute
    )
    assert found == wanted
    calls = file.section("__mcount_loc")
    assert calls is not None
    traceable = [
        item for item in file.relocations(calls.number) if file.symbol(item.symbol).section in layout
    ]
    assert len(module.sites.mcount) == len(traceable) > 100


def stored(lab: Lab, folder: Path) -> Path:
    """A folder with the modules of a kernel."""
    (folder / modules.ARCHIVE).symlink_to(lab.session(NAME).bridge.kernel.folder / modules.ARCHIVE)
    return folder


def test_linked_modules_are_kept_and_another_file_of_the_name_is_linked_anew(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stored(lab, tmp_path)
    assert linked_modules(folder, ["bridge", "none"]).keys() == {"bridge"}
    made = linked_modules(folder, SOME)
    assert made.keys() == set(SOME)
    linked_again = []
    monkeypatch.setattr(module_store, "_linked", lambda _folder, name: linked_again.append(name))
    kept = linked_modules(folder, SOME)
    assert linked_again == []
    assert all(equal(kept[name], made[name]) for name in SOME)
    checksum = modules.checksum
    monkeypatch.setattr(modules, "checksum", lambda where, name: 1 + (checksum(where, name) or 0))
    assert linked_modules(folder, ["xfs"]) == {}
    assert linked_again == ["xfs"]


def test_code_that_clears_a_slot_of_a_structure_it_is_given_is_found() -> None:
    """`ops->inherits = NULL`, in ata_finalize_port_ops()."""
    code = bytes.fromhex(
        "48c787e001000000000000"  # mov qword [rdi+0x1e0], 0
        "48c7400800000000"  # mov qword [rax+8], 0
        "49c70600000000"  # mov qword [r14], 0
        "48c787e801000001000000"  # mov qword [rdi+0x1e8], 1
    )
    assert list(cleared_slots(code)) == [(0x1E0, 7), (8, 15), (0, 22)]


@pytest.mark.parametrize("damage", [lambda data: data[:-50], lambda data: b"", lambda data: flipped(data)])
def test_a_damaged_archive_is_made_again(lab: Lab, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = stored(lab, tmp_path)
    made = linked_modules(folder, ["bridge"])
    (archive,) = folder.glob("linked-modules-*")
    archive.write_bytes(damage(archive.read_bytes()))
    assert equal(linked_modules(folder, ["bridge"])["bridge"], made["bridge"])
    assert zipfile.ZipFile(archive).testzip() is None


def flipped(data: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_linked_module_or_damage(data: bytes) -> None:
    try:
        unpacked(data)
    except module_store.DAMAGE:
        return
