"""QEMU from outside: saving memory, and the error when a guest does not come to its capture."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samples.qemu import Guest, GuestError, find_qemu, save_raw

MIB = 1 << 20
Start = Callable[..., Guest]


def test_memory_is_saved_as_it_is_and_what_is_empty_takes_no_room(tmp_path: Path) -> None:
    written = {0: b"first", 3 * MIB + 4095: b"xy", 5 * MIB: bytes(MIB), 8 * MIB - 4: b"last"}
    with open(tmp_path / "ram", "wb") as stream:
        stream.truncate(8 * MIB)
        for offset, data in written.items():
            os.pwrite(stream.fileno(), data, offset)
    digest = save_raw(tmp_path / "ram", 8 * MIB, tmp_path / "dump.raw")
    saved = (tmp_path / "dump.raw").read_bytes()
    assert saved == (tmp_path / "ram").read_bytes()
    assert digest == hashlib.sha256(saved).hexdigest()
    assert (tmp_path / "dump.raw").stat().st_blocks * 512 < MIB


def test_memory_that_was_never_written_is_saved_as_zeros(tmp_path: Path) -> None:
    os.truncate(os.open(tmp_path / "ram", os.O_CREAT | os.O_RDWR), 3 * MIB + 4096)
    digest = save_raw(tmp_path / "ram", 3 * MIB + 4096, tmp_path / "dump.raw")
    assert digest == hashlib.sha256(bytes(3 * MIB + 4096)).hexdigest()
    assert (tmp_path / "dump.raw").read_bytes() == bytes(3 * MIB + 4096)


def test_without_qemu_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GuestError, match="apt-get install .*qemu-system-x86"):
        find_qemu()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(program)`: a guest whose emulator is a Python program that speaks QMP; it has so many
    seconds."""
    children = []

    def started(program: str, seconds: float = 60) -> Guest:
        child = subprocess.Popen(
            [sys.executable, "-c", QMP + program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
        )
        children.append(child)
        return Guest(tmp_path, child, time.monotonic() + seconds)

    yield started
    for child in children:
        with child:
            child.kill()


QMP = """\
import json, sys, time
def say(**message): print(json.dumps(message), flush=True)
def hear(): return json.loads(sys.stdin.readline())
"""
GREETING = "say(QMP={}); order = hear()['execute']; say(**{'return': {}})\n"


def test_the_capture_is_at_the_event_of_the_guest_s_panic(start: Start) -> None:
    guest = start(
        GREETING + "say(event='RESUME'); say(event='GUEST_PANICKED'); say(event='STOP')\n"
        "asked = hear(); say(**{'return': asked['arguments']['x']}); time.sleep(99)"
    )
    guest.wait_for_capture()
    assert guest.command("query-something", {"x": 5}) == 5


def test_what_qemu_refuses_is_reported_in_its_words(start: Start) -> None:
    guest = start("hear(); say(error={'class': 'GenericError', 'desc': 'no such thing'}); time.sleep(99)")
    with pytest.raises(GuestError, match="^QEMU refused dump-guest-memory: no such thing$"):
        guest.command("dump-guest-memory")


@pytest.mark.parametrize(
    ("program", "seconds", "what"),
    [
        (GREETING + "time.sleep(99)", 0.3, "the guest did not come to its end in time"),
        (GREETING, 60, "QEMU ended early"),
        ("", 60, "QEMU ended early"),
    ],
)
def test_a_guest_without_a_capture_is_one_line_with_its_last_lines(
    start: Start, tmp_path: Path, program: str, seconds: float, what: str
) -> None:
    (tmp_path / "qemu.log").write_text("warning\n")
    (tmp_path / "console").write_text("Kernel panic\r\n\n  init: gave up\n")
    guest = start(program, seconds)
    with pytest.raises(GuestError) as caught:
        guest.wait_for_capture()
    assert str(caught.value) == f"{what}; its last lines: warning | Kernel panic | init: gave up"
