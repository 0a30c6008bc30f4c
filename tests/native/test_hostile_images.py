"""Images whose names and links try to reach this machine through a native program."""

from __future__ import annotations

import mmap
import os
import subprocess
from pathlib import Path

import pytest
from generations import Lab

from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.native.capture import Completed, capture
from hybridbridge_vol.native.run import Options

IMAGE = "6.12"
LINK = "/usr/sbin/nginx"
TARGET = b"/usr/libexec/actor"


@pytest.fixture(scope="module")
def copy(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of an image, to be changed."""
    path = tmp_path_factory.mktemp("hostile-image") / "dump.raw"
    subprocess.run(["cp", "--sparse=always", lab.sample(IMAGE).dump, path], check=True)
    return path


def replace(path: Path, old: bytes, new: bytes) -> None:
    """Write other text over every place that has one of the same length."""
    assert len(old) == len(new)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        at, found = memory.find(old), 0
        while at >= 0:
            memory[at : at + len(new)] = new
            at, found = memory.find(old, at + 1), found + 1
        assert found


def run(lab: Lab, path: Path, *words: str, stdin: bytes = b"") -> Completed:
    with open_session(path, lab.store.root) as session:
        return capture(session, words, stdin, Options(seconds=120))


@pytest.mark.parametrize("target", [b"/etc/os-release", b"/proc/self/fd/0", b"/dev/stdin", b"/dev/tty"])
def test_a_link_of_the_image_is_followed_in_the_image(lab: Lab, copy: Path, target: bytes) -> None:
    """To a file that this machine has and the image has not; to the program's descriptors, or terminal."""
    name = TARGET + b"\0"
    new = target.ljust(len(name), b"\0")
    replace(copy, name, new)
    try:
        shown = run(lab, copy, "readlink", LINK)
        assert shown.stdout == target + b"\n", shown
        done = run(lab, copy, "cat", LINK, stdin=b"the examiner's words")
        assert done.status == 1 and done.stdout == b"", done
    finally:
        replace(copy, new, name)


def test_a_file_that_only_this_machine_has_is_not_found(lab: Lab, copy: Path) -> None:
    assert os.path.exists("/etc/os-release")
    done = run(
        lab, copy, "cat", "/etc/os-release", "/etc/../etc/os-release", "/proc/self/root/etc/os-release"
    )
    assert done.stdout == b"" and done.stderr.count(b"No such file") == 3, done
