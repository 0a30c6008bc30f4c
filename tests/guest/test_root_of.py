"""`--root-of`: files as a process sees them that has changed its root directory and has no namespaces of its
own (samples/guest/pseudo_init.sh), by every front."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generations import Lab
from live_files import LiveFiles

import hybridbridge_vol
from hybridbridge_vol import tools
from hybridbridge_vol.api.guest_file import GuestFile
from hybridbridge_vol.cli.main import main
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.session import Session, open_session
from samples.make import Sample, Spec, make_sample
from samples.pseudo_guest import JAIL, JAILED

NOTE = JAILED["note"]


@pytest.fixture(scope="module")
def sample(lab: Lab) -> Sample:
    lab.sample("6.1 two CPUs")  # its kernel is trusted then
    return make_sample(Spec("6.1-cloud", light=True, pseudo=True))


@pytest.fixture(scope="module")
def jailed(sample: Sample, lab: Lab) -> int:
    with open_session(sample.dump, lab.store.root) as session:
        (pid,) = (
            pid
            for pid in map(int, filter(str.isdecimal, session.files.listdir("/proc")))
            if session.files.read(f"/proc/{pid}/comm") == b"jailed\n"
        )
        assert session.files.readlink(f"/proc/{pid}/root") == JAIL
        assert session.files.read(f"{JAIL}/note") == NOTE
        return pid


@pytest.fixture(scope="module")
def inside(sample: Sample, lab: Lab, jailed: int) -> Iterator[Session]:
    with open_session(sample.dump, lab.store.root, root_of=jailed) as session:
        yield session


def test_paths_begin_at_the_root_of_the_process_and_lead_not_out_of_it(inside: Session) -> None:
    assert set(inside.files.listdir("/")) == {"bin", "etc", "note"}
    for path in ("/note", "/../note", "/etc/../../note"):
        assert inside.files.read(path) == NOTE
    with pytest.raises(FileNotFoundError):
        inside.files.read(f"{JAIL}/note")


def test_proc_is_that_of_the_whole_guest(inside: Session, sample: Sample) -> None:
    assert inside.files.listdir("/proc/1/task") == ["1"]
    assert inside.files.read("/proc/1/mountinfo") == sample.truth.file("/proc/1/mountinfo")


def test_tools_show_its_files_and_its_names(inside: Session) -> None:
    def ask(name: str, **options: Any) -> dict[Any, dict[str, Any]]:
        tool = tools.load(name)
        given = tool.defaults() | options
        names = [column.name for column in tool.columns_for(given)]
        rows = [dict(zip(names, row.cells, strict=True)) for row in tool.rows(inside, given)]
        return {row.get("PATH", row.get("NAME")): row for row in rows}

    assert ask("dir", path="/")["note"]["USER"] == "jailor"
    files = ask("files")
    assert {"/", "/note", "/etc/passwd", "/bin/jailed"} <= set(files)
    assert files["/note"]["USER"] == "jailor"


def test_the_command_line_and_recover_have_it(
    sample: Sample, lab: Lab, jailed: int, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    given = ["--store", str(lab.store.root), "--root-of", str(jailed)]
    assert main(["run", str(sample.dump), "cat", "/note", *given]) == 0
    assert capfdbinary.readouterr().out == NOTE
    out = tmp_path / "case"
    assert main(["recover", str(sample.dump), "--out", str(out), "--path", "/[en]*", *given]) == 0
    for name, content in JAILED.items():
        assert (out / "files" / name).read_bytes() == content


def test_the_library_opens_files_by_any_path(sample: Sample, lab: Lab, jailed: int) -> None:
    with hybridbridge_vol.open(sample.dump, lab.store.root, root_of=jailed) as snapshot:
        with snapshot.open("/etc/passwd") as file:
            assert file.read() == JAILED["etc/passwd"]
            assert file.seek(-5, os.SEEK_END) == len(JAILED["etc/passwd"]) - 5
            assert file.read() == JAILED["etc/passwd"][-5:]
            with io.TextIOWrapper(file) as text:
                text.seek(0)
                assert text.readline() == "root:x:0:0::/:/bin/sh\n"
        with snapshot.open("/proc/version") as file:
            assert file.read() == snapshot.read_file("/proc/version") != b""
        seen = snapshot.stat("/note")
        assert (seen.uid, seen.size) == (1000, len(NOTE))
        assert snapshot.readlink(f"/proc/{jailed}/root") == JAIL
        assert snapshot.listxattr("/note") == []
        with pytest.raises(OSError) as caught:
            snapshot.getxattr("/note", "user.none")
        assert caught.value.errno == errno.ENODATA
        with pytest.raises(IsADirectoryError):
            snapshot.open("/etc")


def test_what_memory_does_not_hold_is_an_error_in_the_middle_of_an_open_file() -> None:
    class Cut(LiveFiles):
        def read_range(self, path: str, offset: int, size: int) -> bytes:
            if offset + size > 4096:
                raise OSError(errno.EIO, "not in the page cache", path)
            return b"x" * size

    file = GuestFile(Cut({}), "/file", 8192)
    assert file.read(4096) == b"x" * 4096
    with pytest.raises(OSError, match="not in the page cache"):
        file.read(1)


@pytest.mark.parametrize("pid", [4_000_000, -1])
def test_a_process_that_is_not_there_is_one_line(sample: Sample, lab: Lab, pid: int) -> None:
    with pytest.raises(OptionError, match=f"--root-of {pid}: no such process"):
        open_session(sample.dump, lab.store.root, root_of=pid)
