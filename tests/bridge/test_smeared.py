"""An image taken while the machine ran, with pages of different moments: every tool ends, and reports what
is inconsistent."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol import tools
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest.session import open_session
from samples import qemu
from samples.make import Spec, make_sample

Lab = Any
MOMENTS = (12, 20, 28)
"""Seconds after the guest's start: programs start, work, end."""
COPYING = 6
"""Seconds that a copy takes, as over a network."""
PIECE = 1 << 20


def copy_slowly(ram: Path, copy: Path, start: float) -> None:
    time.sleep(start)
    with open(ram, "rb") as stream, open(copy, "wb") as out:
        pieces = ram.stat().st_size // PIECE
        begun = time.monotonic()
        for number in range(pieces):
            time.sleep(max(0.0, begun + COPYING * number / pieces - time.monotonic()))
            out.write(stream.read(PIECE))


@pytest.fixture(scope="module")
def smeared(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Copies of a working guest's memory."""
    folder = tmp_path_factory.mktemp("smeared")
    copies = [folder / f"{moment}.raw" for moment in MOMENTS]
    wait = qemu.Guest.wait_for_capture

    def copy_and_wait(guest: qemu.Guest) -> None:
        threads = [
            threading.Thread(target=copy_slowly, args=(guest.folder / "ram", copy, moment))
            for copy, moment in zip(copies, MOMENTS, strict=True)
        ]
        for thread in threads:
            thread.start()
        wait(guest)
        for thread in threads:
            thread.join()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qemu.Guest, "wait_for_capture", copy_and_wait)
        sample = make_sample(
            Spec("6.1-cloud", seed=61, cpus=2, processes=60 + time.time_ns() % 40)
        )  # never a kept one
    shutil.rmtree(sample.folder)
    return copies


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(len(MOMENTS)))
def test_every_tool_ends_and_says_what_is_missing(lab: Lab, smeared: list[Path], moment: int) -> None:
    lab.sample("6.1 two CPUs")
    rows: dict[str, int] = {}
    with open_session(smeared[moment], lab.store.root) as session:
        for name in tools.NAMES:
            tool = tools.load(name)
            if any(option.positional for option in tool.options):
                continue
            start = time.process_time()
            try:
                rows[name] = sum(1 for _row in tool.rows(session, tool.defaults()))
            except (HybridBridgeError, OSError) as error:
                assert str(error)
            assert time.process_time() - start < 90
        assert list(tools.load("check").rows(session, {})) == []
    assert rows["ps"] > 50
    assert rows["lsmod"] > 10
