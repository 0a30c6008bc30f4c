"""A worker that tries: what it was not given it does not reach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

TRIES = """
import ctypes, errno, json, mmap, os, socket, struct, subprocess, sys
from pathlib import Path
from hybridbridge_vol.native.sandbox import confine

given, secret, staging, parent = sys.argv[1:5]
libc = ctypes.CDLL(None, use_errno=True)


def syscall(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fork_and_read(path):
    pid = os.fork()
    if not pid:
        try:
            open(path).read()
            os._exit(0)
        except OSError:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        raise OSError("in the child")


def signal_parent():
    os.kill(int(parent), 0)


def read_parent():
    buffer = ctypes.create_string_buffer(8)
    mine = struct.pack("<QQ", ctypes.addressof(buffer), 8)
    try:
        syscall(310, int(parent), mine, 1, struct.pack("<QQ", 4096, 8), 1, 0)
    except OSError as error:
        if error.errno != errno.EFAULT:  # it was looked for there
            raise


tries = {
    "read the image": lambda: Path(given, "dump").read_bytes(),
    "list its folder": lambda: os.listdir(given),
    "write its table": lambda: Path(staging, "table").write_bytes(b"rows"),
    "fork and read the image": lambda: fork_and_read(Path(given, "dump")),
    "import a module": lambda: __import__("wave"),
    "map memory": lambda: mmap.mmap(-1, 4096, prot=7),
    "its own memory": lambda: open("/proc/self/pagemap", "rb").read(8),
    "read another file": lambda: open(secret).read(),
    "read it after fork": lambda: fork_and_read(secret),
    "read passwords": lambda: open("/etc/shadow").read(),
    "read this user's keys": lambda: os.listdir(Path.home()),
    "read the parent's environment": lambda: open(f"/proc/{parent}/environ", "rb").read(),
    "write the image": lambda: open(Path(given, "dump"), "r+b"),
    "write beside it": lambda: Path(given, "new").write_bytes(b""),
    "remove it": lambda: os.unlink(Path(given, "dump")),
    "rename it": lambda: os.rename(Path(given, "dump"), Path(staging, "dump")),
    "change its mode": lambda: os.chmod(Path(given, "dump"), 0o777),
    "truncate it": lambda: os.truncate(Path(given, "dump"), 0),
    "link to it": lambda: os.link(Path(given, "dump"), Path(staging, "link")),
    "make a link": lambda: os.symlink("/etc/shadow", Path(staging, "symlink")),
    "write in /tmp": lambda: open("/tmp/hostile-worker", "x"),
    "start a program": lambda: subprocess.run(["/bin/true"], check=True),
    "start a shell": lambda: os.execv("/bin/sh", ["sh", "-c", "true"]),
    "reach a network": lambda: socket.socket(),
    "reach a unix socket": lambda: socket.socket(socket.AF_UNIX),
    "signal the parent": signal_parent,
    "trace the parent": lambda: syscall(101, 16, int(parent), 0, 0),
    "read the parent's memory": read_parent,
    "another namespace": lambda: syscall(272, 0x10000000),
    "io_uring": lambda: syscall(425, 1, ctypes.create_string_buffer(256)),
    "bpf": lambda: syscall(321, 0, ctypes.create_string_buffer(256), 128),
}
confine([given], [staging])
done = {}
for name, attempt in tries.items():
    try:
        attempt()
        done[name] = ""
    except (OSError, ImportError, subprocess.SubprocessError) as error:
        done[name] = str(error) or "refused"
print(json.dumps(done))
"""
ALLOWED = {
    "read the image", "list its folder", "write its table", "fork and read the image", "import a module",
    "map memory", "its own memory",
}  # fmt: skip


@pytest.fixture
def tried(tmp_path: Path) -> Mapping[str, str]:
    """Why each attempt failed; empty if it did not."""
    given, staging, secret = tmp_path / "given", tmp_path / "staging", tmp_path / "secret"
    given.mkdir()
    staging.mkdir()
    (given / "dump").write_bytes(b"memory")
    secret.write_text("secret")
    line = [sys.executable, "-c", TRIES, str(given), str(secret), str(staging), str(os.getpid())]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        said = worker.stdout.read()
    done: dict[str, str] = json.loads(said)
    assert (given / "dump").read_bytes() == b"memory"
    assert os.listdir(given) == ["dump"] and set(os.listdir(staging)) <= {"table"}
    assert not os.path.exists("/tmp/hostile-worker")
    return done


def test_a_worker_reaches_what_it_was_given_and_nothing_else(tried: Mapping[str, str]) -> None:
    assert {name for name, why in tried.items() if not why} == ALLOWED


def test_a_search_in_the_sandbox_notes_what_it_has_done_and_goes_on(lab: Any, tmp_path: Path) -> None:
    rules, journal = tmp_path / "rules.yar", tmp_path / "search"
    rules.write_text('rule banner { strings: $a = "Linux version 6" condition: $a }')
    line = [sys.executable, "-m", "hybridbridge_vol", "run", str(lab.sample("6.12").dump), "--sandbox"]
    line += [
        "--store",
        str(lab.store.root),
        "yara",
        str(rules),
        "--scope",
        "kernel",
        "--resume",
        str(journal),
    ]
    first, again = (subprocess.run(line, capture_output=True, check=True) for _ in range(2))
    assert b"banner" in first.stdout and again.stdout == first.stdout
    assert len(journal.read_bytes().splitlines()) > 1
    assert sorted(os.listdir(tmp_path)) == ["rules.yar", "search"]


def test_a_kernel_that_must_be_booted_once_more_is_by_a_child_that_is_not_confined(
    lab: Any, tmp_path: Path
) -> None:
    """The image's kernel may lie where the stored one was booted to: one image in ten."""
    dump, store = str(lab.sample("6.12").dump), tmp_path / "store"
    lab.copy_store(store)
    for boot in store.glob("*/boot-*"):
        shutil.rmtree(boot)
    line = [sys.executable, "-m", "hybridbridge_vol", "run", dump, "uptime", "--store", str(store)]
    confined = subprocess.run([*line, "--sandbox"], capture_output=True, check=True)
    assert len(list(store.glob("*/boot-*"))) == 1
    assert confined.stderr == b""
    assert subprocess.run(line, capture_output=True, check=True).stdout == confined.stdout


@pytest.mark.parametrize("words", [["ps"], ["hooks"]])
def test_a_tool_gives_the_same_rows_in_the_sandbox(lab: Any, words: list[str]) -> None:
    line = [sys.executable, "-m", "hybridbridge_vol", "run", str(lab.sample("6.12").dump), *words]
    line += ["--store", str(lab.store.root)]
    rows, confined = (
        subprocess.run([*line, *more], capture_output=True, check=True) for more in ([], ["--sandbox"])
    )
    assert len(rows.stdout) > 1000 and confined.stdout == rows.stdout and confined.stderr == b""


FORGETTING = """
import sys
from pathlib import Path
from hybridbridge_vol.allowance import taken_memory
from hybridbridge_vol.native.sandbox import confine

confine([])
print(taken_memory(), flush=True)
sys.stdin.readline()
print(taken_memory())
"""


def test_a_confined_process_knows_its_own_memory_after_linux_forgot_unused_names() -> None:
    """Which it does when memory is scarce: a folder of /proc is another inode afterwards."""
    drop = Path("/proc/sys/vm/drop_caches")
    if not os.access(drop, os.W_OK):
        pytest.skip("only root can let Linux forget names")
    with subprocess.Popen(
        [sys.executable, "-c", FORGETTING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        before = int(process.stdout.readline())
        drop.write_text("2\n")  # names and inodes
        after, _err = process.communicate("\n")
    assert before > 0 and int(after) > 0
