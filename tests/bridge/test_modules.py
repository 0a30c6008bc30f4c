"""Code of the snapshot's modules: from trusted files, where the snapshot has them, under the same proof."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from test_bridges import session_with

from hybridbridge_vol.bridge.hybrid import Mode
from hybridbridge_vol.errors import CallUndone
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.machine.memory import PAGE_SIZE
from hybridbridge_vol.trust.modules import ARCHIVE

Lab = Any

OF_MODULES = "/proc/net/dev"
"""A file that is written by network drivers, which are modules in these guests."""


def loaded(session: Session) -> list[tuple[str, int]]:
    """`(name, address)` of the guest's modules, as its kernel tells them."""
    lines = session.read_file("/proc/modules").decode().splitlines()
    return [(line.split()[0], int(line.split()[5], 16)) for line in lines]


def test_every_module_of_the_guest_is_found_and_its_file_is_what_the_guest_runs(lab: Lab, generation: str) -> None:
    """But for what the loader patches: alternatives, static branches, calls of the tracer."""
    session = lab.session(generation)
    modules = session.bridge.space.modules
    equal = total = with_constants = 0
    for name, text_vaddr in loaded(session):
        part = modules.at(text_vaddr)
        assert part is not None, name
        assert (part.module.name, part.group.vaddr, part.executable) == (name, text_vaddr, True)
        there = modules.read(text_vaddr, len(part.group.content))
        size = part.module.file.text_layout()[1]
        same = sum(mine == theirs for mine, theirs in zip(part.group.content[:size], there, strict=False))
        assert same / size > 0.7, name
        equal, total = equal + same, total + size
        if part.module.rodata is None:
            continue  # nothing in it is referred to
        constants = modules.read(part.module.rodata.vaddr, PAGE_SIZE)
        _layout, length = part.module.file.rodata_layout()
        length = min(length, PAGE_SIZE)
        alike = sum(mine == theirs for mine, theirs in zip(part.module.rodata.content[:length], constants, strict=False))
        assert alike / length > 0.6, name  # the tables of the unwinder are sorted when the module is loaded
        with_constants += 1
    assert equal / total > 0.9
    assert with_constants > len(loaded(session)) / 4


def test_files_that_modules_write_are_the_guests(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    lines = session.read_file(OF_MODULES).splitlines()
    assert [line.split(b":")[0] for line in lines] == [line.split(b":")[0] for line in truth.file(OF_MODULES).splitlines()]
    for path in ("/proc/net/nf_conntrack", "/proc/net/vlan/config"):
        if path in truth.late and not truth.late[path].errno and not truth.moved(path):
            assert session.read_file(path) == truth.file(path)


def test_modules_run_alike_on_every_bridge_and_are_memoized(lab: Lab, generation: str) -> None:
    with session_with(lab, generation, Mode.SLOW) as slow:
        proven = slow.read_file(OF_MODULES)
        memo = slow.bridge.memo
        assert slow.statistics.stray == {}
        assert slow.statistics.unknown_instructions == {}
    assert any(len(part) for part in memo.modules.values())
    with session_with(lab, generation, Mode.FAST, memo) as fast:
        assert fast.read_file(OF_MODULES) == proven
    with session_with(lab, generation, Mode.AUTO) as learning:
        assert learning.read_file(OF_MODULES) == proven
        assert any("module " in place for place in learning.statistics.trapped_in) or learning.statistics.total.traps


def test_a_module_without_a_trusted_file_is_named_and_not_run(lab: Lab, tmp_path: Path) -> None:
    sample = lab.sample("6.1 two CPUs")
    store = tmp_path / "store"
    shutil.copytree(lab.store.root, store)
    for archive in store.glob(f"*/{ARCHIVE}"):
        archive.unlink()
    with open_session(sample.dump, store) as session:
        with pytest.raises(CallUndone, match=r"needs code of module \w+, of which no trusted file is stored"):
            session.read_file(OF_MODULES)
        assert session.read_file("/proc/1/comm") == sample.truth.file("/proc/1/comm")


def test_code_of_a_module_that_the_image_changed_is_not_run(lab: Lab, tmp_path: Path) -> None:
    """The trusted file's code runs, whatever stands in the image."""
    sample = lab.sample("6.1 two CPUs")
    session = lab.session("6.1 two CPUs")
    expected = session.read_file(OF_MODULES)
    bridge = session.bridge
    image = tmp_path / "dump.raw"
    shutil.copyfile(sample.raw, image)
    with open(image, "r+b") as stream:
        for part in list(bridge.space.modules.parts):
            if not part.executable:
                continue
            for symbol in part.module.file.symbols():
                if "stats" in symbol.name and symbol.size > 16 and symbol.section in part.module.sections:
                    vaddr = part.module.sections[symbol.section] + symbol.value
                    translation = bridge.layout.translate(bridge.image, vaddr)
                    if vaddr in part.vaddrs and translation is not None:
                        stream.seek(bridge.image.offset_of(translation.paddr) or 0)
                        stream.write(b"\x31\xc0\xc3")  # xor eax, eax; ret
    with open_session(image, lab.store.root) as changed:
        assert changed.read_file(OF_MODULES) == expected
