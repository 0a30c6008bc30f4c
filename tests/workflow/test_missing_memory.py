"""What `hb info` says that a file lacks, held against the guest's own memory map."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from generations import Lab

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.workflow.describe_image import describe
from samples.lime import write_lime

NAME = "6.1 two CPUs"
MIB = 1 << 20
RAM = (0x100000, 0xFFE0000)
"""The guest's memory above 1 MiB, by its own /proc/iomem (see the first test)."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_the_guest_itself_names_its_memory(lab: Lab) -> None:
    lines = lab.sample(NAME).truth.file("/proc/iomem").decode().splitlines()
    assert f"{RAM[0]:08x}-{RAM[1] - 1:08x} : System RAM" in lines


def test_a_whole_image_lacks_nothing_in_either_format(lab: Lab) -> None:
    sample = lab.sample(NAME)
    for path in (sample.dump, sample.lime()):
        facts = describe(path, lab.store.root)
        assert (facts.missing, facts.left_out, facts.notes) == ((), None, ())


def test_a_file_that_is_whole_by_its_own_headers_lacks_what_the_kernels_map_names(
    lab: Lab, folder: Path
) -> None:
    sample = lab.sample(NAME)
    layout = lab.session(NAME).bridge.layout
    kernel = range(layout.text_paddr - MIB, layout.text_paddr + layout.size + MIB)
    hole = next(at for at in range(32 * MIB, 200 * MIB, MIB) if at not in kernel and at + MIB not in kernel)
    path = folder / "holed.lime"
    write_lime(
        sample.raw, [(0x1000, 0x9E000), (RAM[0], hole - RAM[0]), (hole + MIB, RAM[1] - hole - MIB)], path
    )
    facts = describe(path, lab.store.root)
    (line,) = facts.missing
    assert line == (
        f"{hole:#x}-{hole + MIB - 1:#x} (1.0 MiB): the kernel's memory by its own map, not in the file"
    )


def test_a_truncated_raw_image_lacks_its_end_even_where_the_kernels_map_was_there(
    lab: Lab, folder: Path
) -> None:
    layout = lab.session(NAME).bridge.layout
    end = layout.text_paddr + layout.size + 4 * MIB
    path = folder / "cut.raw"
    subprocess.run(["cp", "--sparse=always", lab.sample(NAME).dump, path], check=True)
    with open(path, "r+b") as stream:
        stream.truncate(end)
    facts = describe(path, lab.store.root)
    assert facts.missing[-1].startswith(f"{end:#x}-{RAM[1] - 1:#x} ")
    with open_session(path, lab.store.root) as session:
        reasons = set()
        try:
            names = session.files.listdir("/proc")
        except IncompleteDirectory as part:  # what of the kernel's tables lies behind the end is chance
            names = part.names
        for pid in names:
            try:
                session.files.read(f"/proc/{pid}/status" if pid.isdigit() else "/proc/version")
            except CallRolledBack as error:
                reasons.add(error.reason)
            except OSError:
                continue
        assert reasons and all("not in the image: outside of the image's ranges" in text for text in reasons)
        assert any("page fault in twin" in failure for failure in session.statistics.failures)
