"""The small tools, against the machine the tests run on and against files of known content."""

from __future__ import annotations

import os
import platform
import stat
import subprocess
import time
from errno import EIO
from pathlib import Path
from typing import Any

import pytest
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.api.table import field_of
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import in_guest
from hybridbridge_vol.toolkit.tool import Raw


def ask(name: str, kernel: LiveKernel | None = None, **options: Any) -> list[dict[str, Any]]:
    """A tool's rows as dictionaries."""
    tool = tools.load(name)
    chosen = tool.defaults() | options
    names = [column.name for column in tool.columns_for(chosen)]
    rows = tool.rows(kernel or LiveKernel(), chosen)
    return [dict(zip(names, row.cells, strict=True)) for row in rows]


@pytest.mark.parametrize("name", tools.NAMES)
def test_a_tool_describes_itself_for_hb_and_for_volatility(name: str) -> None:
    tool = tools.load(name)
    assert tool.name == name
    for error_text in (tool.help, tool.notes, *(option.help for option in tool.options)):
        # argparse and Volatility both expand % in help texts
        assert "%" not in error_text
    assert not tool.help.endswith(".")
    assert "\n" not in tool.help
    assert all(column.help for column in tool.columns)
    assert tool.tree_column is None or tool.tree_column in [column.name for column in tool.columns]
    taken = {
        "store",
        "bridge",
        "ns-of",
        "ns_of",
        "root-of",
        "root_of",
        "format",
        "config",
        "file",
        "log",
        "quiet",
        "extend",
        "renderer",
        "filters",
    }
    assert not taken & {option.name for option in tool.options}


@pytest.mark.parametrize("name", tools.NAMES)
def test_no_column_is_there_twice_whatever_is_asked(name: str) -> None:
    tool = tools.load(name)
    switches = [option.name for option in tool.options if option.type is bool]
    for chosen in ({}, *({switch: True} for switch in switches), dict.fromkeys(switches, True)):
        columns = tool.columns_for(tool.defaults() | chosen)
        fields = [field_of(column.name) for column in columns]
        assert len(fields) == len(set(fields)), (chosen, fields)


def test_uname_and_hostname() -> None:
    (row,) = ask("uname")
    assert row["RELEASE"] == platform.release()
    assert " ".join(list(row.values())[:5]) == " ".join(os.uname())
    (row,) = ask("hostname")
    assert row["HOSTNAME"] == os.uname().nodename


def test_uptime_shows_the_time_and_the_load() -> None:
    kernel = LiveKernel({"/proc/loadavg": b"1.50 0.18 0.02 3/180 11206\n"})
    (row,) = ask("uptime", kernel)
    assert abs(row["NOW"] - time.time()) < 5
    assert abs(row["UP"] - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert row["BOOTED"] == row["NOW"] - row["UP"]
    assert (row["LOAD1"], row["LOAD5"], row["LOAD15"]) == ("1.50", "0.18", "0.02")
    assert (row["RUNNING"], row["THREADS"]) == (3, 180)


def test_uptime_without_loadavg_still_shows_the_time() -> None:
    (row,) = ask("uptime", LiveKernel({"/proc/loadavg": CallRolledBack("read", "page fault")}))
    assert row["UP"] > 0
    assert row["LOAD1"] == row["THREADS"] == Unavailable("/proc/loadavg: page fault")


MODULES = b"""\
nft_chain_nat 16384 2 - Live 0xffffffffc0b3e000
nf_nat 57344 1 nft_chain_nat, Live 0xffffffffc0b2f000
smeared \xff\xfe
evil 16384 0 [permanent], Loading 0xffffffffc0b00000 (OE+)
"""


def test_lsmod_shows_users_state_and_address_of_each_module() -> None:
    rows = ask("lsmod", LiveKernel({"/proc/modules": MODULES}))
    assert rows[0]["MODULE"] == "nft_chain_nat"
    assert (rows[1]["SIZE"], rows[1]["USED"], rows[1]["BY"]) == (57344, 1, "nft_chain_nat")
    assert (rows[3]["STATE"], rows[3]["TAINTS"], rows[3]["BY"]) == ("Loading", "OE+", "[permanent]")
    assert rows[3]["ADDRESS"] == 0xFFFFFFFFC0B00000


def test_a_smeared_line_of_lsmod_says_so_and_the_rest_is_shown() -> None:
    rows = ask("lsmod", LiveKernel({"/proc/modules": MODULES}))
    assert len(rows) == 4
    assert all(isinstance(cell, Unavailable) for cell in rows[2].values())


WHOLE = {"offset": None, "length": None}
"""Options of `cat` for whole files."""


def test_cat_gives_lines_or_bytes() -> None:
    data = b"one\n\ntwo \xff\n"
    kernel = LiveKernel({"/proc/x": data})
    assert ask("cat", kernel, path=("/proc/x",)) == [
        {"LINE": 1, "TEXT": "one"},
        {"LINE": 2, "TEXT": ""},
        {"LINE": 3, "TEXT": "two \udcff"},
    ]
    cat = tools.load("cat")
    assert isinstance(cat, Raw)
    assert list(cat.raw(kernel, {**WHOLE, "path": ("/proc/x", "/proc/version")})) == [
        data,
        Path("/proc/version").read_bytes(),
    ]


def test_cat_of_two_files_names_them_and_goes_on_after_one_that_fails() -> None:
    kernel = LiveKernel({"/proc/a": OSError(EIO, os.strerror(EIO), "/proc/a"), "/proc/b": b"b"})
    gap = Unavailable("/proc/a: Input/output error")
    assert ask("cat", kernel, path=("/proc/a", "/proc/b")) == [
        {"PATH": "/proc/a", "LINE": gap, "TEXT": gap},
        {"PATH": "/proc/b", "LINE": 1, "TEXT": "b"},
    ]
    with pytest.raises(OSError, match="/proc/a"):
        ask("cat", kernel, path=("/proc/a",))


def test_cat_of_an_empty_file_has_no_lines() -> None:
    assert ask("cat", LiveKernel({"/proc/x": b""}), path=("/proc/x",)) == []


def test_dir_lists_what_ls_lists(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("file")
    for number in ("10", "9"):
        (tmp_path / number).touch()
    rows = ask("dir", path=f"/proc/self/root{tmp_path}")
    assert [row["NAME"] for row in rows] == ["9", "10", "file", "link", "sub"]
    listed = subprocess.run(["ls", "-lnU", tmp_path], check=True, capture_output=True, text=True).stdout
    for row in rows:
        line = next(line.split() for line in listed.splitlines()[1:] if line.split()[8] == row["NAME"])
        assert [row["MODE"], str(row["NLINK"]), str(row["UID"]), str(row["GID"]), str(row["SIZE"])] == line[
            :5
        ]
    assert [row["TARGET"] for row in rows] == [None, None, None, "file", None]


def test_dir_of_a_file_lists_the_file() -> None:
    (row,) = ask("dir", path="/proc/version")
    assert row["NAME"] == "/proc/version"
    assert row["MODE"] == stat.filemode(os.stat("/proc/version").st_mode)


def test_an_entry_of_dir_that_cannot_be_read_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "good").touch()
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "lost").touch()
    base = f"/proc/self/root{tmp_path}"
    kernel = LiveKernel(
        {
            f"{base}/lost": CallRolledBack("newlstat", "loop"),
            f"readlink {base}/link": CallRolledBack("readlink", "cycle"),
        }
    )
    rows = {row["NAME"]: row for row in ask("dir", kernel, path=base)}
    assert rows["lost"]["SIZE"] == Unavailable(f"{base}/lost: loop")
    assert rows["link"]["MODE"][0] == "l"
    assert rows["link"]["TARGET"] == Unavailable(f"{base}/link: cycle")
    assert rows["good"]["SIZE"] == 0


def test_dir_of_nothing_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        ask("dir", path="/proc/nothing")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/etc/passwd", "/etc/passwd"),
        ("etc/passwd", "/etc/passwd"),
        ("/", "/"),
        ("proc/1", "/proc/1"),
        ("/proc/../proc//1/stat", "/proc/1/stat"),
        ("/proc/../etc/passwd", "/proc/../etc/passwd"),
        ("/var/run/../lock", "/var/run/../lock"),
        ("/procfs", "/procfs"),
    ],
)
def test_a_path_is_made_absolute_and_the_guests_kernel_follows_its_dots(given: str, meant: str) -> None:
    assert in_guest(given) == meant


@pytest.mark.parametrize("path", ["", "/a\0b"])
def test_what_cannot_be_a_path_is_refused(path: str) -> None:
    for tool, value in (("cat", (path,)), ("dir", path)):
        with pytest.raises(OSError, match="not a path"):
            ask(tool, path=value)
    cat = tools.load("cat")
    assert isinstance(cat, Raw)
    (chunk,) = cat.raw(LiveKernel(), {**WHOLE, "path": (path,)})
    assert isinstance(chunk, Unavailable)
