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
from generations import Lab

from hybridbridge_vol.errors import CallRolledBack, HybridBridgeWarning
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.tools.ps import TOOL as PS
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


def test_a_dump_of_level_31_says_of_each_page_why_it_is_not_there(
    lab: Lab, folder: Path, core: Path, tools: Path
) -> None:
    path = makedumpfile.run(tools, core, folder / "31.kdump", "-c", "-d", "31")
    facts = describe(path, lab.store.root)
    assert facts.missing == ()
    assert facts.left_out is not None
    assert re.fullmatch(r"[\d,]+ KiB " + re.escape(LEVEL_31), facts.left_out)
    with open_session(path, lab.store.root) as session:
        with pytest.raises(CallRolledBack) as failed:
            session.files.read("/proc/1/environ")
        assert failed.value.reason == f"not in the image: {LEVEL_31}"
        assert any(re.search(r"in (twin|home) \w+\+0x", failure) for failure in session.statistics.failures)
        assert session.files.read("/proc/1/comm") == lab.session(NAME).files.read("/proc/1/comm")


@pytest.mark.parametrize("options", [("-c", "-d", "1"), ("-E", "-d", "1")], ids=["kdump", "elf"])
def test_a_dump_of_level_1_answers_as_the_whole_image(
    lab: Lab, folder: Path, core: Path, tools: Path, options: tuple[str, ...]
) -> None:
    path = makedumpfile.run(tools, core, folder / f"1.{options[0]}", *options)
    facts = describe(path, lab.store.root)
    assert facts.missing == ()
    if options[0] == "-E":
        assert facts.left_out and any("read as zeros" in note for note in facts.notes)
        with pytest.warns(HybridBridgeWarning, match="read as zeros"):
            session = open_session(path, lab.store.root)
    else:
        assert facts.left_out is None and facts.notes == ()
        session = open_session(path, lab.store.root)
    with session:
        assert processes(session) == processes(lab.session(NAME))


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
