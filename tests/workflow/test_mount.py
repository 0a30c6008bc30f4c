"""`hb mount`: the guest's root as a file system, asked by the machine's own tools."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from generations import Lab
from image_editor import Editor
from mounted import NEEDS_FUSE, mounted_image

pytestmark = NEEDS_FUSE


@pytest.fixture
def mounted(lab: Lab, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    with mounted_image(lab.sample("6.12").dump, lab.store.root, tmp_path / "case") as process:
        yield tmp_path / "case", process


def test_the_machines_own_tools_work_on_it(mounted: tuple[Path, subprocess.Popen[str]], lab: Lab) -> None:
    folder, _process = mounted
    session = lab.session("6.12")
    assert (folder / "etc" / "passwd").read_bytes() == session.files.read("/etc/passwd")
    listed = subprocess.run(
        ["find", folder / "usr" / "lib" / "modules", "-type", "f", "-size", "+0"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(listed) > 5
    for path in listed[:5]:
        inside = "/" + str(Path(path).relative_to(folder))
        assert Path(path).read_bytes() == session.files.read(inside)
    found = subprocess.run(
        ["grep", "-r", "root:x:0", folder / "etc"], capture_output=True, text=True, check=True
    )
    assert "/etc/passwd:root:x:0" in found.stdout


def test_its_proc_is_the_guests(mounted: tuple[Path, subprocess.Popen[str]], lab: Lab) -> None:
    folder, _process = mounted
    assert (folder / "proc" / "version").read_bytes() == lab.session("6.12").files.read("/proc/version")


def test_nothing_can_be_written(mounted: tuple[Path, subprocess.Popen[str]]) -> None:
    folder, _process = mounted
    with pytest.raises(OSError):
        (folder / "etc" / "passwd").write_text("x")
    with pytest.raises(OSError):
        (folder / "new").mkdir()


def test_links_stay_inside(mounted: tuple[Path, subprocess.Popen[str]]) -> None:
    folder, _process = mounted
    for path in folder.iterdir():
        if path.is_symlink():
            assert path.resolve().is_relative_to(folder.resolve()), path


def test_an_image_whose_root_cannot_be_reached_is_not_mounted(lab: Lab, tmp_path: Path) -> None:
    """Process 1 is taken out of the tree of pids: every look into the folder had been an error."""
    editor = Editor(lab.session(NAME))
    bridge = editor.bridge
    words = [editor.read(bridge.snapshot("init_pid_ns") + at) for at in range(0, 128, 8)]
    node = next(word for word in words if word & 3 == XA_NODE and bridge.may_be_snapshot(word))
    while (first := editor.read(node - XA_NODE + XA_SLOTS)) & 3 == XA_NODE:
        node = first
    editor.write(node - XA_NODE + XA_SLOTS + 8, 0)
    image, folder = tmp_path / "rootless.raw", tmp_path / "folder"
    editor.save(lab.sample(NAME).dump, image)
    folder.mkdir()
    command = [sys.executable, "-m", "hybridbridge_vol", "mount", str(image), str(folder)]
    command += ["--store", str(lab.store.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"hb: {image}: its root directory cannot be reached: " in done.stderr


NAME = "6.1 two CPUs"
XA_NODE, XA_SLOTS = 2, 40
"""The tag of a pointer to a `struct xa_node`, and where that has its slots (include/linux/xarray.h)."""
