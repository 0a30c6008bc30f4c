"""Images with forged pointers: a good image in which bytes of kernel structures were edited."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.identity_maps import NOTE as IDENTITY_NOTE
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable

Lab = Any
NAME = "6.1 two CPUs"
TASK_WORDS = 1200
"""64-bit words of a task_struct that are searched for a pointer."""


def offset_of_word(session: Session, structure_vaddr: int, word: int, words: int) -> int:
    """Image offset of the first 64-bit `word` in a structure of the snapshot."""
    bridge = session.bridge
    for vaddr in range(structure_vaddr, structure_vaddr + 8 * words, 8):
        if bridge.machine.read_u64(vaddr) == word:
            place = bridge.layout.translate(bridge.image, vaddr)
            assert place is not None
            offset = bridge.image.offset_of(place.paddr)
            assert offset is not None
            return offset
    raise AssertionError("not found")


@pytest.fixture(scope="module")
def mm_of(lab: Lab) -> tuple[int, int, int]:
    """A process of the sample, the image offset of its task's `mm` pointer, and the pointer."""
    pid = 1
    with open_session(lab.sample(NAME).dump, lab.store.root) as session:
        call = session.caller.call
        task = call(session.bridge.snapshot("find_task_by_vpid"), pid) & ((1 << 64) - 1)
        mm = call(session.bridge.snapshot("get_task_mm"), task) & ((1 << 64) - 1)
        return pid, offset_of_word(session, task, mm, TASK_WORDS), mm


@pytest.mark.parametrize(
    "maps",
    [b"\x06\0\0\0\0\0\0\0" + b"A" * 8, b"\xff" * 72, bytes(216), b"\0\0\0\0\0\x02\0\0"],
    ids=["a pointer to more", "ones", "none", "a range"],
)
def test_damaged_maps_of_user_numbers_are_put_right_and_reported(
    lab: Lab, forged: Callable[[int, int], Path], maps: bytes
) -> None:
    with open_session(lab.sample(NAME).dump, lab.store.root) as session:
        good, bridge = ps(session), session.bridge
        assert IDENTITY_NOTE not in session.notes
        place = bridge.layout.translate(bridge.image, bridge.snapshot("init_user_ns"))
        assert place is not None
        offset = bridge.image.offset_of(place.paddr)
        assert offset is not None
    path = forged(offset, int.from_bytes(maps[:8], "little"))
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(maps)
    with open_session(path, lab.store.root) as session:
        assert IDENTITY_NOTE in session.notes
        assert ps(session) == good
    path.unlink()


@pytest.fixture
def forged(lab: Lab, tmp_path: Path) -> Callable[[int, int], Path]:
    """A copy of the sample with one 64-bit word replaced."""

    def make(offset: int, word: int) -> Path:
        path = tmp_path / "forged.raw"
        subprocess.run(["cp", "--sparse=always", lab.sample(NAME).dump, path], check=True)
        with open(path, "r+b") as stream:
            stream.seek(offset)
            stream.write(word.to_bytes(8, "little"))
        return path

    return make


def ps(session: Session) -> dict[object, tuple[Any, ...]]:
    """The rows of `ps` by process id."""
    tool = tools.load("ps")
    return {row.cells[0]: row.cells for row in tool.rows(session, {o.name: o.default for o in tool.options})}


def guest_rows(lab: Lab) -> dict[object, tuple[Any, ...]]:
    """The rows of the unedited image."""
    with open_session(lab.sample(NAME).dump, lab.store.root) as session:
        return ps(session)


TRUSTED: dict[str, Callable[[Bridge], int]] = {
    "its memory": lambda bridge: bridge.prepared.proxy_task.task,
    "its image": lambda bridge: bridge.home("init_task"),
}
"""Addresses on the trusted side, which no author of an image can know but by luck."""


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.SLOW])
@pytest.mark.parametrize("side", sorted(TRUSTED))
def test_a_pointer_forged_into_the_trusted_side_is_reported_with_its_image_offset(
    lab: Lab, mm_of: tuple[int, int, int], forged: Callable[[int, int], Path], mode: Mode, side: str
) -> None:
    pid, offset, _mm = mm_of
    good = guest_rows(lab)
    with open_session(lab.sample(NAME).dump, lab.store.root) as session:
        address = TRUSTED[side](session.bridge)
    path = forged(offset, address)
    with open_session(path, lab.store.root, mode=mode) as session:
        with pytest.raises(
            CallRolledBack, match=rf"forged pointer followed in twin .*image offset {offset:#x}"
        ):
            session.files.read(f"/proc/{pid}/cmdline")
        rows = ps(session)
    path.unlink()
    assert all(rows[other] == good[other] for other in good if other != pid)
    reasons = [cell.reason for cell in rows[pid] if isinstance(cell, Unavailable)]
    assert any("forged pointer" in reason for reason in reasons)


def test_proc_is_mounted_where_the_page_of_its_type_names_the_trusted_side(
    lab: Lab, forged: Callable[[int, int], Path]
) -> None:
    """FAST-BRIDGE is not given that page, and an honest image may have such a word by chance."""
    good = guest_rows(lab)
    with open_session(lab.sample(NAME).dump, lab.store.root) as session:
        bridge = session.bridge
        parameters = bridge.snapshot("proc_fs_type") + 24 - bridge.layout.text_vaddr
        offset = bridge.image.offset_of(bridge.layout.text_paddr + parameters)
        address = bridge.home("init_task")
    assert offset is not None
    path = forged(offset, address)
    with open_session(path, lab.store.root) as session:
        assert ps(session) == good
        assert session.statistics.total.withheld
    path.unlink()


NOWHERE = {
    "user space": 0x1000,
    "end of user space": 0x7FFF_FFFF_F000,
    "non-canonical": 0x4141_4141_4141_4141,
    "guard hole": 0xFFFF_8000_DEAD_0000,
    "last word": 0xFFFF_FFFF_FFFF_FFF8,
    "null": 0,
}


@pytest.mark.parametrize(
    ("mode", "word"),
    [
        pytest.param(
            mode,
            word,
            id=f"{name}-{mode.value}",
            marks=pytest.mark.slow if mode is Mode.SLOW and name not in ("non-canonical", "null") else (),
        )
        for name, word in NOWHERE.items()
        for mode in Mode
    ],
)
def test_a_pointer_that_leads_nowhere_spoils_its_own_row_only(
    lab: Lab, mm_of: tuple[int, int, int], forged: Callable[[int, int], Path], mode: Mode, word: int
) -> None:
    pid, offset, _mm = mm_of
    good = guest_rows(lab)
    path = forged(offset, word)
    with open_session(path, lab.store.root, mode=mode) as session:
        rows = ps(session)
    path.unlink()
    assert rows.keys() == good.keys()
    assert all(rows[other] == good[other] for other in good if other != pid)
    assert rows[pid] != good[pid]


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.SLOW])
def test_a_pointer_into_the_middle_of_an_object_harms_no_other_row(
    lab: Lab, mm_of: tuple[int, int, int], forged: Callable[[int, int], Path], mode: Mode
) -> None:
    pid, offset, mm = mm_of
    good = guest_rows(lab)
    path = forged(offset, mm + 0x18)
    with open_session(path, lab.store.root, mode=mode) as session:
        rows = ps(session)
    path.unlink()
    assert all(rows[other] == good[other] for other in good if other != pid)


def test_a_cyclic_list_is_shown_once_and_reported(lab: Lab, forged: Callable[[int, int], Path]) -> None:
    lsmod = tools.load("lsmod")
    with open_session(lab.sample(NAME).dump, lab.store.root) as session:
        bridge = session.bridge
        first = bridge.machine.read_u64(bridge.snapshot("modules"))
        second = bridge.machine.read_u64(first)
        offset = offset_of_word(session, second, bridge.machine.read_u64(second), 1)
        good = [row.cells for row in lsmod.rows(session, {})]
    path = forged(offset, first)
    with open_session(path, lab.store.root) as session:
        *rows, last = (row.cells for row in lsmod.rows(session, {}))
        assert session.files.read("/proc/1/stat").startswith(b"1 (")
    path.unlink()
    assert rows == good[:2]
    assert isinstance(last[0], Unavailable)
    assert "is cyclic" in last[0].reason
