"""Bad input ends in one clear line, or in a partial answer that says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR
from hybridbridge_vol.bridge.run import budget
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.guest.values import MissingRecords
from hybridbridge_vol.machine.paging import NO_EXECUTE
from hybridbridge_vol.trust import files

Lab = Any
NAME = "6.1 two CPUs"


def hb(*arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and error of hb."""
    command = [sys.executable, "-m", "hybridbridge_vol", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def assert_one_line(lab: Lab, path: Path, *words: str) -> None:
    """`hb run PATH ps` ends in one line that names the file and has the words."""
    status, out, err = hb("run", path, "ps", "--store", lab.store.root)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1, err
    assert str(path) in err
    for word in words:
        assert word in err


@pytest.fixture
def edited(lab: Lab, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the sample image, changed by a function."""

    def make(change: Callable[[Any], None]) -> Path:
        path = tmp_path / "edited.raw"
        subprocess.run(["cp", "--sparse=always", lab.sample(NAME).dump, path], check=True)
        with open(path, "r+b") as stream:
            change(stream)
        return path

    return make


def test_a_file_of_noise_is_not_a_memory_image(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_bytes(os.urandom(1 << 20) * 4)
    lab.sample(NAME)
    assert_one_line(lab, path, "no Linux kernel")


def test_an_empty_file_a_directory_and_a_missing_file_are_distinguished(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert_one_line(lab, tmp_path / "empty", "empty")
    assert_one_line(lab, tmp_path, "directory")
    assert_one_line(lab, tmp_path / "nothing", "does not exist")


@pytest.mark.parametrize(("magic", "word"), [(b"\x1f\x8b\x08", "gzip -d"), (b"\x28\xb5\x2f\xfd", "zstd -d")])
def test_a_compressed_image_is_answered_with_the_command_that_decompresses_it(
    lab: Lab, tmp_path: Path, magic: bytes, word: str
) -> None:
    path = tmp_path / "dump.gz"
    path.write_bytes(magic + bytes(4 << 20))
    assert_one_line(lab, path, "compressed", word)


def test_a_kernel_that_is_not_stored_is_named_with_its_package_and_the_command(
    lab: Lab, tmp_path: Path
) -> None:
    status, out, err = hb("run", lab.sample(NAME).dump, "ps", "--store", tmp_path / "empty-store")
    assert (status, out, err.count("\n")) == (1, "", 1)
    for word in ("Linux version 6.1", "linux-image-6.1", "hb trust add", str(lab.sample(NAME).dump)):
        assert word in err


def test_an_image_truncated_before_its_kernel_is_reported(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "cut.raw"
    with open(lab.sample(NAME).dump, "rb") as source:
        path.write_bytes(source.read(4 << 20))
    assert_one_line(lab, path, "Linux")


def test_an_image_truncated_behind_its_kernel_answers_in_part(lab: Lab, edited: Callable[..., Path]) -> None:
    layout = lab.session(NAME).bridge.layout
    end = layout.text_paddr + layout.size + (4 << 20)
    path = edited(lambda stream: stream.truncate(end))
    if end < lab.sample(NAME).dump.stat().st_size:
        status, out, err = hb("run", path, "ps", "--store", lab.store.root)
        assert status in (1, 3)
        assert "Traceback" not in err
        assert err
        assert "the limit of the tool" not in out


def test_a_corrupt_store_is_one_line_that_names_the_file(lab: Lab, tmp_path: Path) -> None:
    dump = lab.sample(NAME).dump
    store = tmp_path / "store"
    lab.copy_store(store)
    for memory in store.rglob("memory"):
        with open(memory, "r+b") as stream:
            stream.truncate(1 << 20)
    status, out, err = hb("run", dump, "ps", "--store", store)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "memory: truncated" in err


def test_flipped_bytes_in_a_stored_kernel_are_noticed(lab: Lab, tmp_path: Path) -> None:
    dump = lab.sample(NAME).dump
    store = tmp_path / "store"
    lab.copy_store(store)
    for memory in store.rglob("memory"):
        with open(memory, "r+b") as stream:
            stream.seek(0x1000000 + 0x100000)  # in the kernel's text
            stream.write(b"\xcc" * 64)
    status, out, err = hb("run", dump, "ps", "--store", store)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "corrupt" in err


def test_a_store_of_another_version_says_what_to_do(lab: Lab, tmp_path: Path) -> None:
    dump = lab.sample(NAME).dump
    store = tmp_path / "store"
    for entry in (kernel.folder for kernel in lab.store.kernels()):
        (store / entry.name).mkdir(parents=True)
        record = files.read_manifest(entry / "kernel.json")
        (store / entry.name / "kernel.json").write_bytes(files.manifest({**record, "format": 0}))
    status, out, err = hb("run", dump, "ps", "--store", store)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "hb trust add" in err


def test_a_read_only_store_still_answers(lab: Lab, tmp_path: Path) -> None:
    dump = lab.sample(NAME).dump
    store = tmp_path / "store"
    lab.copy_store(store)
    for prepared in store.rglob("prepared-*"):
        prepared.unlink()
    subprocess.run(["chmod", "-R", "a-w", store], check=True)
    try:
        status, out, _err = hb("run", dump, "ps", "--store", store)
    finally:
        subprocess.run(["chmod", "-R", "u+w", store], check=True)
    assert status == 0
    assert "kthreadd" in out


def test_a_file_that_is_not_a_kernel_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"not a kernel" * 1000)
    status, out, err = hb("trust", "add", path, "--store", tmp_path / "store")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert str(path) in err


def test_page_tables_that_lead_nowhere_are_reported(lab: Lab, edited: Callable[..., Path]) -> None:
    layout = lab.session(NAME).bridge.layout

    def wipe(stream: Any) -> None:
        stream.seek(layout.root_paddr + 2048)
        stream.write(bytes(2048 - 8))  # the kernel half but for the kernel image itself

    path = edited(wipe)
    status, _out, err = hb("run", path, "ps", "--store", lab.store.root)
    assert status in (1, 3)
    assert "Traceback" not in err
    assert str(path) in err


def test_reading_a_cyclic_task_list_ends(lab: Lab, edited: Callable[..., Path], monkeypatch: Any) -> None:
    """Many words of init_task point back into it: whatever follows a list there must end."""
    monkeypatch.setattr(budget, "CALL_SECONDS", 2.0)
    session = lab.session(NAME)
    init_task = session.bridge.snapshot("init_task")
    first = session.bridge.machine.read_u64(init_task + 2048)
    assert first  # a task_struct is larger than this

    def loop(stream: Any) -> None:
        paddr = init_task - session.bridge.layout.text_vaddr + session.bridge.layout.text_paddr
        stream.seek(paddr + 1024)
        stream.write((init_task + 1024).to_bytes(8, "little") * 64)

    path = edited(loop)
    with open_session(path, lab.store.root) as broken:
        pids = [name for name in broken.files.listdir("/proc") if name.isdigit()]
        for pid in pids:
            try:
                assert broken.files.read(f"/proc/{pid}/stat")
            except (OSError, CallRolledBack) as error:
                assert str(error)


def test_a_failed_call_leaves_no_trace(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(lab.sample(NAME).dump, lab.store.root) as session:
        before = session.files.read("/proc/1/status"), session.files.listdir("/proc")
        rolled_back = session.rolled_back
        modules = session.bridge.space.modules
        without = modules._names._replace(file=lambda _name: None)  # a package without modules
        monkeypatch.setattr(modules, "_names", without)
        with pytest.raises(MissingRecords):
            session.files.read("/proc/net/dev")  # needs a driver's code, which the image may not bring along
        assert session.rolled_back > rolled_back
        assert (session.files.read("/proc/1/status"), session.files.listdir("/proc")) == before


def test_a_file_that_a_roll_back_closed_is_not_closed_again(lab: Lab) -> None:
    session = lab.session(NAME)
    with session.files.open("/proc/stat") as stale:
        number = stale.number
        with pytest.raises(CallRolledBack):
            session.caller.call(1 << 40, label="nothing")
        # the roll back freed every number up to the stale file's: one of these takes it
        opened = [session.files.open("/proc/version") for _ in range(number + 1)]
        assert number in [file.number for file in opened]
        with pytest.raises(CallRolledBack):
            _ = stale.number
    for file in opened:
        assert file.read().startswith(b"Linux version")
        file.close()


def test_errors_of_the_guests_kernel_are_raised_by_their_errno(lab: Lab) -> None:
    session = lab.session(NAME)
    with pytest.raises(FileNotFoundError):
        session.files.read("/proc/999999/stat")
    with pytest.raises(IsADirectoryError):
        session.files.read("/proc/1")
    with pytest.raises(NotADirectoryError):
        session.files.listdir("/proc/version")


def test_lime_and_raw_give_the_same_table(lab: Lab) -> None:
    sample = lab.sample(NAME)
    answers = [hb("run", path, "ps", "--store", lab.store.root) for path in (sample.dump, sample.lime())]
    assert answers[0][0] == answers[1][0] == 0
    assert answers[0][1] == answers[1][1]


def test_the_snapshot_is_never_executable(lab: Lab) -> None:
    bridge = lab.session(NAME).bridge
    for name in ("init_task", "jiffies", "__per_cpu_offset"):
        translation = bridge.machine.translate(bridge.snapshot(name))
        if translation is not None:
            assert translation.paddr >= SNAPSHOT_PADDR
            assert translation.entry & NO_EXECUTE


@pytest.fixture(autouse=True)
def enough_room(tmp_path: Path) -> Any:
    """Copies of images are removed when their test is over."""
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)
