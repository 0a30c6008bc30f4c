"""Pages that the writer of a file left out: makedumpfile at its dump levels, QEMU with paging=true, and
memory that was plugged in while the guest ran."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import makedumpfile
import pytest
from ending_guest import Ending, ended
from generations import GENERATIONS, Lab

from hybridbridge_vol.errors import CallRolledBack, HybridBridgeWarning
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.ps import TOOL as PS
from hybridbridge_vol.units import PAGE_SIZE as PAGE
from hybridbridge_vol.workflow.describe_image import describe
from samples import qemu

pytestmark = pytest.mark.slow
NAME = "6.1 two CPUs"
LEVEL_31 = "left out by makedumpfile, dump level 31 (cache pages, private cache pages, user data, free pages)"
PLUGGED, PLUGGED_AT = 128 << 20, 4 << 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("left_out")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def core(lab: Lab, folder: Path) -> Path:
    return makedumpfile.vmcore(lab.sample(NAME), lab.session(NAME).bridge.layout, folder / "vmcore")


@pytest.fixture(scope="module")
def tools(folder: Path) -> Path:
    return makedumpfile.unpack(folder / "tools")


def processes(session: Session) -> list[tuple[object, ...]]:
    options = PS.defaults()
    return [row.cells for row in PS.rows(session, options)]


@pytest.mark.parametrize("option", ["-c", "-l"])
def test_a_dump_of_level_31_says_of_each_page_why_it_is_not_there(
    lab: Lab, folder: Path, core: Path, tools: Path, option: str
) -> None:
    path = makedumpfile.run(tools, core, folder / "31.kdump", option, "-d", "31")
    facts = describe(path, lab.store.root)
    assert facts.missing == ()
    assert describe(path, folder / "no store").banner == facts.banner  # found in what is there
    assert facts.left_out is not None
    assert re.fullmatch(r"[\d,]+ KiB " + re.escape(LEVEL_31), facts.left_out)
    with open_session(path, lab.store.root) as session:
        with pytest.raises(CallRolledBack) as failed:
            session.files.read("/proc/1/environ")
        assert failed.value.reason == f"not in the image: {LEVEL_31}"
        assert any(re.search(r"in (twin|home) \w+\+0x", failure) for failure in session.statistics.failures)
        assert session.files.read("/proc/1/comm") == lab.session(NAME).files.read("/proc/1/comm")


@pytest.mark.parametrize("option", ["-c", "-l"])
def test_a_dump_of_level_1_answers_as_the_whole_image(
    lab: Lab, folder: Path, core: Path, tools: Path, option: str
) -> None:
    path = makedumpfile.run(tools, core, folder / "1.kdump", option, "-d", "1")
    facts = describe(path, lab.store.root)
    assert facts.missing == () and facts.left_out is None and facts.notes == ()
    with open_session(path, lab.store.root) as session:
        assert processes(session) == processes(lab.session(NAME))


@pytest.mark.parametrize("level", [1, 31])
@pytest.mark.parametrize("form", [("-E",), ("-E", "-F")], ids=["elf", "flattened"])
def test_an_elf_core_of_any_level_answers_as_the_whole_image_or_says_what_was_left_out(
    lab: Lab, folder: Path, core: Path, tools: Path, form: tuple[str, ...], level: int
) -> None:
    path = makedumpfile.run(tools, core, folder / f"{level}.elf", *form, "-d", str(level))
    facts = describe(path, lab.store.root)
    assert facts.missing == ()
    assert facts.left_out is not None and facts.left_out.endswith(
        "KiB left out by makedumpfile, at a dump level that an ELF core does not record"
    )
    assert any("user data and free ones are missing" in note for note in facts.notes)
    with pytest.warns(HybridBridgeWarning, match="are missing"):
        session = open_session(path, lab.store.root)
    with session:
        found = [cell for row in processes(session) for cell in row]
    whole = [cell for row in processes(lab.session(NAME)) for cell in row]
    lost = [cell.reason for cell in found if isinstance(cell, Unavailable)]
    assert all(
        mine == other or isinstance(mine, Unavailable) for mine, other in zip(found, whole, strict=True)
    )
    assert all(reason.endswith("does not record: a page of user data") for reason in lost)
    assert bool(lost) == (level == 31)  # command lines, which lie in memory of the processes


@pytest.mark.parametrize("name", [*GENERATIONS])
def test_no_page_of_an_elf_core_is_zeros_that_was_not(lab: Lab, folder: Path, tools: Path, name: str) -> None:
    """Level 30 leaves out what is not zeros, 31 that and zeros: held against the raw image, page by page."""
    whole = makedumpfile.vmcore(lab.sample(name), lab.session(name).bridge.layout, folder / "whole")
    of_the_kernel = {}
    for level in (1, 30, 31):
        path = makedumpfile.run(tools, whole, folder / "filtered", "-E", "-d", str(level))
        with open_image(path) as image, open_image(lab.sample(name).raw) as raw:
            kept = 0
            for start, size in image.ranges:
                for paddr in range(start, start + size // PAGE * PAGE, PAGE):
                    page = image.read_available(paddr, PAGE)
                    assert page in (None, raw.read_available(paddr, PAGE)), hex(paddr)
                    kept += image.offset_of(paddr) is None and page is not None
            of_the_kernel[level] = kept
            assert image.left_out is not None
    assert of_the_kernel[30] == 0  # these are never of the kernel
    assert of_the_kernel[31] >= of_the_kernel[1] > 500


def test_a_core_that_follows_page_tables_and_memory_plugged_into_the_guest(lab: Lab, tmp_path: Path) -> None:
    """QEMU's core has all that the direct map has; the raw file, which is the boards' memory only, lacks what
    was plugged in, and says so."""
    lab.sample(NAME)
    ending = Ending("6.1-cloud", "ready", memory="256M,slots=1,maxmem=1G")
    with ended(ending, tmp_path) as guest:
        size = {"qom-type": "memory-backend-ram", "id": "board", "size": PLUGGED}
        guest.command("object-add", size)
        guest.command("device_add", {"driver": "pc-dimm", "id": "dimm", "memdev": "board"})
        for _ in range(60):
            guest.command("cont")
            time.sleep(1)
            guest.command("stop")
            qemu.save_raw(tmp_path / "ram", ending.ram, tmp_path / "dump.raw")
            facts = describe(tmp_path / "dump.raw", lab.store.root)
            if facts.missing:
                break
        guest.command("dump-guest-memory", {"paging": True, "protocol": "file:paging.elf"})
    (line,) = facts.missing
    assert line == (
        f"{PLUGGED_AT:#x}-{PLUGGED_AT + PLUGGED - 1:#x} (128.0 MiB): the kernel's memory by its own map, "
        "not in the file"
    )
    followed = describe(tmp_path / "paging.elf", lab.store.root)
    assert followed.format == "ELF core" and followed.hostname == "second"
    assert not any("by its own map" in line for line in followed.missing)
    shutil.rmtree(tmp_path, ignore_errors=True)
