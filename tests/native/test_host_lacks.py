"""Machines that lack what confining a program needs say so in one line, and run nothing."""

from __future__ import annotations

import subprocess
import sys
from errno import EBUSY, ENOSYS, EPERM

import pytest
from generations import Lab

IMAGE = "6.12"
PIDFD_GETFD, LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, SECCOMP = 438, 444, 446, 317
NEWER_OR_FORBIDDEN = (SECCOMP, PIDFD_GETFD, 434, 424, 310, 311, 101, *range(444, 447))
"""These, pidfd_open, pidfd_send_signal, process_vm_*, ptrace, landlock_*: what old kernels lack and
containers forbid."""
_WITHOUT = """\
import ctypes, os, struct, sys
calls, error = sys.argv[1].split(","), int(sys.argv[2])
code = []
for number, _, flag in (call.partition(":") for call in calls):
    code += [(0x20, 0, 0, 0), (0x15, 0, 3, int(number)), (0x20, 0, 0, 24)]  # args[1]
    code += [(0x45 if flag else 0x35, 0, 1, int(flag or 0)), (6, 0, 0, 0x50000 | error)]
code.append((6, 0, 0, 0x7FFF0000))
program = b"".join(struct.pack("<HBBI", *line) for line in code)
text = ctypes.create_string_buffer(program, len(program))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, struct.pack("<H6xQ", len(code), ctypes.addressof(text))) == 0
os.execv(sys.executable, [sys.executable, "-m", "hybridbridge_vol", *sys.argv[3:]])
"""
"""Starts `hb` where some system calls fail: by a filter, as a container's profile does it. `NUMBER:FLAG`:
where the second argument has the flag."""
_NEW_LISTENER = f"{SECCOMP}:8"  # SECCOMP_FILTER_FLAG_NEW_LISTENER


@pytest.mark.parametrize(
    ("number", "error", "word"),
    [
        (PIDFD_GETFD, EPERM, "SYS_PTRACE"),
        (LANDLOCK_CREATE_RULESET, ENOSYS, "Landlock"),
        (LANDLOCK_CREATE_RULESET, EPERM, "Landlock"),
        (SECCOMP, EPERM, "seccomp"),
        (_NEW_LISTENER, EPERM, "seccomp=unconfined"),
        (_NEW_LISTENER, EBUSY, "listens to its system calls already"),
        (LANDLOCK_RESTRICT_SELF, EPERM, "landlock_restrict_self"),
    ],
)
def test_what_is_missing_is_one_line(lab: Lab, number: int | str, error: int, word: str) -> None:
    words = ["exec", str(lab.sample(IMAGE).dump), "--store", str(lab.store.root), "--", "uname", "-n"]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, str(number), str(error), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("hb: ") and done.stderr.count("\n") == 1 and word in done.stderr, (
        done.stderr
    )
    assert "--user-mode emulated" in done.stderr


def test_an_emulated_program_needs_none_of_it(lab: Lab) -> None:
    words = ["exec", str(lab.sample(IMAGE).dump), "--store", str(lab.store.root), "--user-mode", "emulated"]
    lacking = ",".join(map(str, NEWER_OR_FORBIDDEN))
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, lacking, str(ENOSYS), *words, "--", "uname", "-n"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (lab.sample(IMAGE).truth.command("hostname"), "")


def test_inside_of_another_filter(lab: Lab) -> None:
    """In a container that forbids something else, programs run."""
    words = [
        "exec",
        str(lab.sample(IMAGE).dump),
        "--store",
        str(lab.store.root),
        "--",
        "sh",
        "-c",
        "uname -n & wait",
    ]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, "165", str(EPERM), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == lab.sample(IMAGE).truth.command("hostname")
