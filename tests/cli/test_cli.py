"""`hb` as its users meet it: what it prints, where, and with which exit status."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from errno import ENOENT
from pathlib import Path
from typing import Any

import pytest
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.errors import CallRolledBack, ImageError

ROOT = Path(__file__).resolve().parents[2]
GONE = "No such file or directory"
Hb = Callable[..., tuple[int, str, str]]


def process(*arguments: str, kernel: str = "", **options: Any) -> subprocess.Popen[bytes]:
    """`hb` in a process of its own, on this machine."""
    program = (
        f"import sys, live_kernel; live_kernel.install(live_kernel.LiveKernel({kernel})); "
        "from hybridbridge_vol.cli.main import main; sys.exit(main())"
    )
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], env=env, **options)


def on_a_terminal(columns: int, *arguments: str, kernel: str = "") -> str:
    """What `hb` shows on a terminal of that width."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = process(*arguments, kernel=kernel, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # a terminal whose other side is closed
        pass
    child.wait()
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


# What it writes


def test_run_writes_a_table(hb: Hb) -> None:
    status, out, err = hb("run", "x", "ps", "--pid", str(os.getpid()))
    head, row = out.splitlines()
    assert (status, err) == (0, "")
    assert head.split() == [column.name for column in tools.load("ps").columns]
    assert row.split()[:2] == [str(os.getpid()), str(os.getppid())]


def test_run_writes_json_and_csv_of_the_same_rows(hb: Hb) -> None:
    _, out, _ = hb("run", "x", "ps", "--pid", "1", "--pid", str(os.getpid()), "--format", "json")
    rows = json.loads(out)
    _, out, _ = hb("run", "--format", "csv", "x", "ps", "--pid", "1", str(os.getpid()))
    table = list(csv.DictReader(io.StringIO(out)))
    assert [row["PID"] for row in rows] == [1, os.getpid()]
    assert [(row["PID"], row["COMM"]) for row in table] == [(str(row["PID"]), row["COMM"]) for row in rows]


def test_cat_writes_the_bytes_as_they_are(hb: Hb) -> None:
    data = b"a\0b\xff\x1b[31m\nno newline at the end"
    status, out, err = hb("run", "x", "cat", "/proc/x", kernel=LiveKernel({"/proc/x": data}))
    assert (status, out.encode("utf-8", "surrogateescape"), err) == (0, data, "")


def test_cat_in_json_gives_lines(hb: Hb) -> None:
    kernel = LiveKernel({"/proc/x": b"one\ntwo\n"})
    _, out, _ = hb("run", "x", "cat", "--format", "json", "/proc/x", kernel=kernel)
    assert json.loads(out) == [{"LINE": 1, "TEXT": "one"}, {"LINE": 2, "TEXT": "two"}]


def test_a_terminal_gets_no_control_characters_from_the_guest() -> None:
    files = {"/proc/x": b"\x1b]0;owned\x07 plain\n"}
    assert on_a_terminal(80, "run", "x", "cat", "/proc/x", kernel=repr(files)) == "\\x1b]0;owned\\x07 plain\n"


def test_a_terminal_s_width_is_respected_and_a_pipe_s_is_not() -> None:
    files = {"/proc/1/cmdline": b"init\0" + b"y" * 300}
    arguments = ("run", "x", "ps", "--pid", "1")
    wide = on_a_terminal(160, *arguments, kernel=repr(files))
    assert max(map(len, wide.splitlines())) == 160
    child = process(*arguments, kernel=repr(files), stdout=subprocess.PIPE)
    out, _ = child.communicate()
    assert b"y" * 300 in out


# What it says when something is wrong


def test_unreadable_rows_are_reported_in_the_table_and_by_the_exit_status(hb: Hb) -> None:
    kernel = LiveKernel({"/proc/1/stat": CallRolledBack("read", "page fault")})
    status, out, err = hb("run", "dump.raw", "ps", "--pid", "1", str(os.getpid()), kernel=kernel)
    assert status == 3
    assert out.splitlines()[1].endswith("! /proc/1/stat: page fault")
    assert len(out.splitlines()) == 3
    assert err == "hb: dump.raw: some rows are incomplete; each says why\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImageError("dump.raw: empty file"), "hb: dump.raw: empty file\n"),
        (ImageError("no Linux kernel found"), "hb: dump.raw: no Linux kernel found\n"),
        (FileNotFoundError(ENOENT, GONE, "dump.raw"), f"hb: dump.raw: {GONE}\n"),
        (OSError(ENOENT, GONE, "/proc/x"), f"hb: dump.raw: /proc/x: {GONE}\n"),
        (ImageError("odd\nname\x1b"), "hb: dump.raw: odd name\\x1b\n"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_that_names_the_file(hb: Hb, error: Exception, message: str) -> None:
    status, out, err = hb("run", "dump.raw", "dir", "/proc/x", kernel=LiveKernel({"/proc/x": error}))
    assert (status, out, err) == (1, "", message)


def test_a_bug_says_that_it_is_one_and_debug_shows_the_traceback(hb: Hb) -> None:
    kernel = LiveKernel({"/proc/x": ZeroDivisionError("oops")})
    status, _, err = hb("run", "dump.raw", "dir", "/proc/x", kernel=kernel)
    assert status == 1
    assert err == "hb: dump.raw: oops (ZeroDivisionError, a bug: repeat with `hb --debug` to see where)\n"
    with pytest.raises(ZeroDivisionError):
        hb("--debug", "run", "dump.raw", "dir", "/proc/x", kernel=kernel)


def test_cat_goes_on_after_a_file_that_fails(hb: Hb) -> None:
    kernel = LiveKernel({"/proc/a": CallRolledBack("read", "loop"), "/proc/b": b"b\n"})
    status, out, err = hb("run", "d", "cat", "/proc/a", "/proc/b", kernel=kernel)
    assert (status, out, err) == (3, "b\n", "hb: d: /proc/a: loop\n")
    assert hb("run", "d", "cat", "/proc/a", kernel=kernel) == (1, "", "hb: d: /proc/a: loop\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("frobnicate",),
        ("run",),
        ("run", "x"),
        ("run", "x", "nope"),
        ("run", "x", "ps", "--pid", "one"),
        ("run", "x", "ps", "--nope"),
        ("run", "x", "cat"),
        ("run", "x", "uname", "--format", "xml"),
        ("trust", "add"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_shows_the_usage(hb: Hb, arguments: tuple[str, ...]) -> None:
    status, out, err = hb(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: hb")


def test_an_unknown_tool_is_answered_with_the_list_of_tools(hb: Hb) -> None:
    assert all(f"'{name}'" in hb("run", "x", "nope")[2] for name in tools.NAMES)


def test_a_closed_pipe_ends_it_quietly() -> None:
    child = process(
        "run", "x", "cat", *["/proc/kallsyms"] * 40, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.read(1)
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == b""
    assert child.wait() == 141


def test_ctrl_c_ends_it_quietly() -> None:
    sleep = "__import__('os').write(1, b'!') and __import__('time').sleep(1000)"
    slow = f"{{'/proc/x': type('Slow', (), {{'__class__': property(lambda s: {sleep})}})()}}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with process("run", "x", "cat", "/proc/x", kernel=slow, **pipes) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.read(1) == b"!"
        child.send_signal(signal.SIGINT)
        try:
            assert child.wait(timeout=60) == 130
        finally:
            child.kill()
        assert child.stderr.read() == b""


# Help


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("info",), ("run",), ("run", "x"), ("trust",), ("trust", "add"), ("memo",), ("train",), ("isf",),
        ("batch",), ("regress",), ("regress", "verify"), ("completion",),
        *(("run", "x", name) for name in tools.NAMES),
    ],
)  # fmt: skip
def test_help_teaches_with_an_example(hb: Hb, arguments: tuple[str, ...]) -> None:
    status, out, _ = hb(*arguments, "--help")
    assert status == 0
    assert out.startswith(
        " ".join(["usage: hb", *(word if word != "x" else "DUMP" for word in arguments[:1])])
    )
    assert sum(line.lstrip().startswith(("hb ", "apt-get")) for line in out.splitlines()) >= 1
    assert max(map(len, out.splitlines())) <= 120


def test_help_on_a_dump_lists_the_tools(hb: Hb) -> None:
    _, out, _ = hb("run", "x", "--help")
    for name in tools.NAMES:
        assert tools.load(name).help.split()[0] in out
        assert f"\n    {name} " in out


def test_help_on_a_tool_opens_no_image(hb: Hb) -> None:
    kernel = LiveKernel()
    _, out, _ = hb("run", "no-such-file", "ps", "--help", kernel=kernel)
    assert kernel.opened is None
    for column in tools.load("ps").columns:
        assert column.name in out


def test_the_store_and_the_dump_reach_the_engine(hb: Hb) -> None:
    kernel = LiveKernel()
    hb("run", "--store", "/a", "some.raw", "uname", kernel=kernel)
    assert kernel.opened == ("some.raw", Path("/a"))
    hb("run", "some.raw", "uname", "--store", "/b", kernel=kernel)
    assert kernel.opened == ("some.raw", Path("/b"))
    hb("run", "some.raw", "uname", kernel=kernel)
    assert kernel.opened == ("some.raw", None)
