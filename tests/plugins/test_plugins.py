"""The Volatility plugins: found, selectable, thin, and shown by every renderer."""

from __future__ import annotations

import datetime
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from errno import ENOENT
from keyword import iskeyword
from pathlib import Path
from typing import Any

import pytest
from live_kernel import LiveKernel
from volatility3.framework.renderers import TreeGrid

from hybridbridge_vol import tools
from hybridbridge_vol.check import integrity
from hybridbridge_vol.check.difference import Difference
from hybridbridge_vol.errors import CallRolledBack, KernelNotStored
from hybridbridge_vol.netlink import traffic, xfrm
from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.volatility_plugin import title_of

ROOT = Path(__file__).resolve().parents[2]
OURS = {name: f"linux.hb.{name}.{name.capitalize()}" for name in tools.NAMES}
GIVEN: dict[str, dict[str, Any]] = {
    "getprocname": {"pid": os.getpid()},
    "cat": {"path": ["/proc/version"]},
    "dir": {"path": "/proc/self"},
    "memdump": {"pid": os.getppid()},
    "malfind": {"pid": [1 << 30]},  # no process has that number, which is a row
    "bash": {"pid": [1 << 30]},
    "ps": {"pid": [1, os.getpid()]},
}


def message(kind: int, body: bytes) -> bytes:
    """A netlink message, which is the whole answer to a request."""
    header = (16 + len(body)).to_bytes(4, "little") + kind.to_bytes(2, "little") + bytes(10)
    return header + body


FILES: dict[str, bytes | Exception] = {
    "/proc/modules": b"nf_nat 57344 2 a,b, Live 0xffffffffc0a31000 (OE)\n",
    "/proc/sysvipc/msg": b"key msqid perms cbytes qnum\n 21337 0 600 29 2\n",
    "listdir /": b"etc\n",  # not this machine's whole disk
    "listdir /etc": b"hostname\npasswd\n",
    f"/proc/{os.getpid()}/cgroup": b"0::/docker/" + b"a" * 64 + b"\n",
    # what this machine may have nothing of
    "netlink nf_tables tables": message(nft.NEWTABLE, bytes([2, 0, 0, 0, 8, 0, 1, 0]) + b"nat\0"),
    "netlink conntrack": OSError("connections are not asked for here"),
    "netlink xfrm state": message(xfrm.NEWSA, bytes(224)),
    "netlink rtnetlink 38 0 0x0": message(traffic.NEWQDISC, bytes(20)),
    "/proc/net/ip_tables_names": b"filter\n",
    "/sys/class/net/lo/uevent": b"DEVTYPE=wireguard\n",
    "netlink genetlink families": OSError("generic netlink is not asked here"),
}


NEED_AN_IMAGE = ("owner", "yara")
"""Tools that ask for physical memory."""


def renderers() -> list[Any]:
    from volatility3 import framework
    from volatility3.cli.text_renderer import CLIRenderer

    return list(framework.class_subclasses(CLIRenderer))


def drawn(renderer: Any, grid: Any) -> str:
    from volatility3.cli.text_filter import CLIFilter

    out = io.StringIO()
    made = renderer()
    made.filter = CLIFilter(grid, [])
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        made.render(grid)
    return out.getvalue()


def test_every_tool_has_a_plugin_and_every_plugin_a_tool(plugins: dict[str, Any]) -> None:
    """And hb.exec, which runs programs and is no tool of `hb run`."""
    assert {name for name in plugins if name.startswith("linux.hb.")} == {
        *OURS.values(),
        "linux.hb.exec.Exec",
    }
    stubs = (ROOT / "plugins" / "linux" / "hb").glob("*.py")
    assert {stub.stem for stub in stubs} == {*tools.NAMES, "exec"}


UNREAD = Difference("missing", 0xFFFFFFFF81000000, None, "_text", None, "not in the image")


@pytest.mark.parametrize("name", tools.NAMES)
def test_a_short_name_selects_one_plugin(plugins: dict[str, Any], name: str) -> None:
    # Volatility takes any plugin whose full name contains what was typed: hb.ls would also mean hb.lsmod.
    assert [full for full in plugins if f"hb.{name}" in full] == [OURS[name]]


@pytest.mark.parametrize("name", tools.NAMES)
def test_a_plugin_asks_for_no_layer_and_for_the_tool_s_options(plugins: dict[str, Any], name: str) -> None:
    wanted = {requirement.name: requirement for requirement in plugins[OURS[name]].get_requirements()}
    assert wanted.keys() == {option.name for option in tools.load(name).options} | {
        "store",
        "bridge",
        "provenance",
        "stats",
        "ns_of",
        "root_of",
        "kernel_at",
        "max_seconds",
        "max_memory",
    }
    for option in tools.load(name).options:
        assert wanted[option.name].optional is not option.positional
    assert plugins[OURS[name]].__doc__.startswith(tools.load(name).help)


@pytest.mark.parametrize("renderer", renderers(), ids=lambda renderer: str(renderer.name))
@pytest.mark.parametrize("name", [name for name in tools.NAMES if name not in NEED_AN_IMAGE])
def test_every_renderer_shows_every_tool(
    asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, renderer: Any, name: str
) -> None:
    monkeypatch.setattr(integrity, "differences", lambda _kernel: iter([UNREAD]))  # it needs an image
    grid = asked(LiveKernel(FILES), name, **GIVEN.get(name, {}))
    text = drawn(renderer, grid)
    assert grid.row_count > 0
    if renderer.name != "none":
        assert grid.columns[0].name in text


@pytest.mark.parametrize("renderer", renderers(), ids=lambda renderer: str(renderer.name))
def test_every_renderer_shows_a_tree_with_an_unreadable_row(asked: Callable[..., Any], renderer: Any) -> None:
    kernel = LiveKernel({"/proc/1/stat": CallRolledBack("read", "page fault")})
    drawn(renderer, asked(kernel, "ps", tree=True, threads=True))


def test_a_row_has_the_cells_of_the_tool(asked: Callable[..., Any]) -> None:
    from volatility3.cli.text_renderer import JsonRenderer

    kernel = LiveKernel()
    (row,) = json.loads(drawn(JsonRenderer, asked(kernel, "ps", pid=[os.getpid()])))
    tool = tools.load("ps")
    options = tool.defaults() | {"pid": (os.getpid(),)}
    (expected,) = tool.rows(kernel, options)
    cells = dict(zip([column.name for column in tool.columns], expected.cells, strict=True))
    for name in ("PID", "PPID", "UID", "TTY", "NLWP", "COMM", "CMD"):
        assert row[name] == cells[name]
    start = datetime.datetime.fromisoformat(row["START"])
    assert abs(start.timestamp() - float(str(cells["START"]))) < 0.1
    assert start.tzinfo is not None


def test_children_are_nested_below_their_parents(asked: Callable[..., Any]) -> None:
    from volatility3.cli.text_renderer import JsonRenderer

    rows = json.loads(
        drawn(JsonRenderer, asked(LiveKernel(), "ps", tree=True, pid=[os.getppid(), os.getpid()]))
    )
    assert [row["PID"] for row in rows] == [os.getppid()]
    assert [row["PID"] for row in rows[0]["__children"]] == [os.getpid()]


def test_an_unreadable_value_is_absent_and_the_reason_is_logged(
    asked: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    from volatility3.cli.text_renderer import QuickTextRenderer

    kernel = LiveKernel({"/proc/1/stat": CallRolledBack("read", "page fault at 0x10")})
    text = drawn(QuickTextRenderer, asked(kernel, "ps", pid=[1]))
    assert text.splitlines()[-1].split("\t") == ["1", *["-"] * 13]
    assert "unreadable: /proc/1/stat: page fault at 0x10" in caplog.text


def test_control_characters_of_the_guest_do_not_reach_the_terminal(asked: Callable[..., Any]) -> None:
    from volatility3.cli.text_renderer import QuickTextRenderer

    kernel = LiveKernel({"/proc/x": b"\x1b]0;owned\x07\n\xff\n"})
    text = drawn(QuickTextRenderer, asked(kernel, "cat", path=["/proc/x"]))
    assert r"\x1b]0;owned\x07" in text
    assert text.replace("\n", "").replace("\t", "").isprintable()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KernelNotStored("Linux version 6.1: not in the store", "Linux version 6.1"), "not in the store"),
        (FileNotFoundError(ENOENT, "No such file or directory", "/proc/x"), "/proc/x: No such file"),
    ],
)
def test_an_error_is_a_volatility_exception_for_programs(
    asked: Callable[..., Any], error: Exception, message: str
) -> None:
    from volatility3.framework.exceptions import VolatilityException

    with pytest.raises(VolatilityException, match=rf"hb\.cat: .*an image\.raw: .*{message}") as raised:
        asked(LiveKernel({"/proc/x": error}), "cat", path=["/proc/x"])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("location", "way_out"), [(None, "-f FILE"), ("http://host/x.raw", "fetch it first")]
)
def test_an_image_that_is_not_a_local_file_is_answered_with_the_way_out(
    asked: Callable[..., Any], location: str | None, way_out: str
) -> None:
    from volatility3.framework.exceptions import VolatilityException

    with pytest.raises(VolatilityException, match=way_out):
        asked(LiveKernel(), "uname", location=location)


def test_the_engine_gets_the_path_and_the_store(asked: Callable[..., Any], tmp_path: Path) -> None:
    kernel = LiveKernel()
    asked(kernel, "uname", store="/some/store")
    assert kernel.opened == (str(tmp_path / "an image.raw"), Path("/some/store"))


def vol(*arguments: str, kernel: str = "") -> subprocess.CompletedProcess[str]:
    """Volatility's own command line in a process of its own, with this machine in place of an image."""
    program = (
        f"import sys, live_kernel; live_kernel.install(live_kernel.LiveKernel({kernel})); sys.argv[0] = "
        "'vol'; from volatility3.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "-q", "-p", str(ROOT / "plugins"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", "PYTHONWARNINGS": "ignore"},
    )


def test_vol_finds_the_plugin_by_its_short_name(tmp_path: Path) -> None:
    image = tmp_path / "dump.raw"
    image.write_bytes(b"\0")
    done = vol("-f", str(image), "-r", "jsonl", "hb.ps", "--pid", "1", "2")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["PID"] for line in done.stdout.splitlines() if line.startswith("{")] == [1, 2]


def test_vol_shows_an_error_in_one_line_and_fails(tmp_path: Path) -> None:
    image = tmp_path / "dump.raw"
    image.write_bytes(b"\0")
    done = vol("-f", str(image), "hb.cat", "--path", "/proc/nothing")
    assert done.returncode == 1
    assert done.stderr == f"hb.cat: {image}: /proc/nothing: No such file or directory\n"
    assert vol("hb.uname").stderr == "hb.uname: no memory image: name one with -f FILE\n"


def test_vol_help_lists_the_options_of_the_tool() -> None:
    done = vol("hb.ps", "--help")
    assert done.returncode == 0
    for option in ("--pid", "--threads", "--tree", "--store"):
        assert option in done.stdout


@pytest.mark.parametrize("name", tools.NAMES)
def test_volatility_can_make_an_identifier_of_every_column(name: str) -> None:
    """With each option of its own: some choose other columns."""
    tool = tools.load(name)
    default = tool.defaults()
    for option in (*tool.options, None):
        chosen = default | ({option.name: True} if option is not None and option.type is bool else {})
        for column in tool.columns_for(chosen):
            made = TreeGrid.sanitize_name(title_of(column))
            assert made.isidentifier() and not iskeyword(made), (option, column.name)
