"""`hb` as its users meet it: what it prints, where, and with which exit status."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from errno import ENOENT
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from live_kernel import LiveKernel, module_of

from hybridbridge_vol import tools
from hybridbridge_vol.cli import main as cli
from hybridbridge_vol.errors import CallRolledBack, ImageError, KernelFileError, StoreError

ROOT = Path(__file__).resolve().parents[2]
GONE = "No such file or directory"
Hb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hb(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Hb:
    """`hb("run", "x", "ps", kernel=...)` gives exit status, standard output and standard error."""

    def run(*arguments: str, kernel: Any = None) -> tuple[int, str, str]:
        monkeypatch.setitem(sys.modules, "hybridbridge_vol.guest.session", module_of(kernel or LiveKernel()))
        try:
            status = cli.main(arguments)
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capfdbinary.readouterr()
        return status, out.decode("utf-8", "surrogateescape"), err.decode()

    return run


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
    slow = (
        "{'/proc/x': type('Slow', (), {'__class__': property(lambda s: __import__('time').sleep(1000))})()}"
    )
    child = process("run", "x", "cat", "/proc/x", kernel=slow, stderr=subprocess.PIPE)
    assert child.stderr is not None
    time.sleep(1.0)
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=20) == 130
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


# info and trust


@dataclasses.dataclass(frozen=True)
class Layout:
    text_vaddr: int
    levels: int


@dataclasses.dataclass(frozen=True)
class Facts:
    format: str
    size_bytes: int
    banner: str
    layout: Layout
    captured_at: float
    uptime: float
    cpus: int
    load_addresses_paddr: tuple[int, ...]
    missing: str | None


FACTS = Facts(
    "raw", 268435456, "Linux\x1b", Layout(0xFFFFFFFF81000000, 4), 0.0, 86419.611, 2,
    (0x1000000, 0x2000000), None,
)  # fmt: skip


def test_info_writes_labelled_facts(hb: Hb, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("hybridbridge_vol.workflow.describe_image")
    module.describe = lambda dump, store, progress: FACTS
    monkeypatch.setitem(sys.modules, module.__name__, module)
    status, out, _ = hb("info", "dump.raw")
    assert status == 0
    lines = {
        label.strip(): value.strip() for label, _, value in (line.partition(":") for line in out.splitlines())
    }
    assert lines["Size"] == "256.0 MiB (268435456 bytes)"
    assert lines["Banner"] == r"Linux\x1b"
    assert lines["Text (virtual)"] == "0xffffffff81000000"
    assert lines["Captured at"] == "1970-01-01 00:00:00Z"
    assert lines["Uptime"] == "1-00:00:19 (86419.611 s)"
    assert lines["CPUs"] == "2"
    assert lines["Missing"] == "-"
    assert "0x2000000" in out
    _, out, _ = hb("info", "dump.raw", "--format", "json")
    assert json.loads(out)["layout"] == {"text_vaddr": 0xFFFFFFFF81000000, "levels": 4}


@dataclasses.dataclass(frozen=True)
class Entry:
    name: str
    release: str
    size_bytes: int
    created: float


class Store:
    """As `trust.store.Store`, over a list."""

    def __init__(self, root: Path | None) -> None:
        self.root = root

    def entries(self) -> list[Entry]:
        return [Entry("debian-6.1", "6.1.0-40", 4096, 0.0)] if self.root is None else []

    def remove(self, name: str) -> None:
        raise StoreError(f"{name}: no such kernel")


def enroll(_store: Store, path: Path, progress: Any) -> Entry:
    progress(0.5, "booting")
    if path.name == "bad":
        raise KernelFileError("not a kernel")
    return Entry(path.name, "6.1", 4096, 0.0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("hybridbridge_vol.trust.store")
    module.Store = Store
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module = ModuleType("hybridbridge_vol.workflow.trust_kernel")
    module.enroll = enroll
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("store")
def test_trust_add_goes_on_after_a_bad_file(hb: Hb) -> None:
    status, out, err = hb("trust", "add", "bad", "good")
    assert (status, out, err) == (1, "good: trusted\n", "hb: bad: not a kernel\n")


@pytest.mark.usefixtures("store")
def test_trust_list_and_rm(hb: Hb) -> None:
    _, out, _ = hb("trust", "list")
    assert out.splitlines()[1].split() == ["debian-6.1", "6.1.0-40", "4.0", "KiB", "1970-01-01", "00:00:00Z"]
    _, out, _ = hb("trust", "list", "--format", "json")
    assert json.loads(out)[0]["name"] == "debian-6.1"
    _, out, _ = hb("trust", "list", "--format", "csv")
    assert out.startswith("name,release,size_bytes,created")
    assert hb("trust", "rm", "nope") == (1, "", "hb: nope: no such kernel\n")


@pytest.mark.usefixtures("store")
def test_an_empty_store_says_how_to_fill_it(hb: Hb) -> None:
    status, out, err = hb("trust", "list", "--store", "/elsewhere")
    assert (status, out) == (0, "")
    assert "hb trust add" in err
    assert hb("trust", "list", "--store", "/elsewhere", "--format", "json") == (0, "[]\n", "")
