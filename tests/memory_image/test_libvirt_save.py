"""States that QEMU saved, and what `virsh save` makes of them: the state in it is found, and what is not read
is named."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libvirt_writer import GZIP, SPARSE, ZSTD, saved
from revived import revived
from saved_state import save_state
from sources import source

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.libvirt_save import state_offset
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.units import PAGE_SIZE

STATE = b"QEVM\0\0\0\3"


@pytest.mark.parametrize("room", [0, 1, 65536])
def test_the_state_stands_behind_the_description(room: int) -> None:
    data = saved(STATE, room=room)
    assert data[state_offset(source(data)) :] == STATE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (saved(STATE, magic=b"LibvirtQemudPart"), "had not finished"),
        (saved(STATE)[:80], "truncated"),
        (saved(STATE)[:500], "damaged"),
        (saved(b"QEMV"), "damaged"),
        (saved(STATE, SPARSE), "sparse.*virsh dump --memory-only"),
        (saved(STATE, 7), "unknown form.*virsh dump --memory-only"),
        (saved(STATE, version=3), "unknown form.*virsh dump --memory-only"),
        (saved(STATE, ZSTD), r"zstd.*tail -c \+"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_way_out(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "web.save"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=words) as error:
        open_image(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_the_command_that_unpacks_a_compressed_state_does(tmp_path: Path) -> None:
    path = tmp_path / "a guest.save"
    state = STATE + bytes(range(256)) * 100
    packed = subprocess.run(["gzip", "-c"], input=state, capture_output=True, check=True).stdout
    path.write_bytes(saved(packed, GZIP))
    with pytest.raises(ImageError) as error:
        open_image(path)
    command = str(error.value).split("first: ")[1]
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert (tmp_path / "state.qevm").read_bytes() == state


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_any_header_gives_an_offset_in_the_file_or_an_error(head: bytes, tail: bytes) -> None:
    data = b"LibvirtQemudSave" + head + tail
    try:
        assert data[state_offset(source(data)) :].startswith(b"QEVM")
    except ImageError:
        return


@pytest.mark.slow
def test_a_state_that_qemu_saved_holds_every_byte_of_the_raw_image(lab: Any, tmp_path: Path) -> None:
    """Through Volatility's layer, with and without libvirt's header before it."""
    sample = lab.sample("6.1 two CPUs")
    plain, of_libvirt = tmp_path / "state.qevm", tmp_path / "web.save"
    with revived(sample, tmp_path) as guest:
        save_state(guest, "state.qevm")
    (tmp_path / "ram").unlink()
    of_libvirt.write_bytes(saved(plain.read_bytes()))
    for path in (plain, of_libvirt):
        with open_image(sample.raw) as raw, open_image(path) as state:
            pages = range(0, raw.end_paddr, PAGE_SIZE)
            assert all(raw.read(at, PAGE_SIZE) == state.read_available(at, PAGE_SIZE) for at in pages)
            assert len(state.cpus) == 1
