"""The generated documents: the tools' pages and the man page say what the program says now."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from hybridbridge_vol import tools
from hybridbridge_vol.cli.main import COMMANDS
from hybridbridge_vol.cli.run import example_of

ROOT = Path(__file__).resolve().parents[2]


def generator(name: str) -> ModuleType:
    """A module of build_support."""
    place = importlib.util.spec_from_file_location(name, ROOT / "build_support" / f"{name}.py")
    assert place is not None and place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def test_the_tools_pages_are_current() -> None:
    tool_pages = generator("tool_pages")
    written = {path: path.read_text() for path in tool_pages.PAGES.glob("*.md")}
    assert written == tool_pages.pages(), "run `make docs`"


@pytest.mark.parametrize("name", tools.NAMES)
def test_a_recorded_example_is_of_the_command_that_the_tool_names(name: str) -> None:
    command, *output = (ROOT / "docs" / "tools" / "examples" / f"{name}.txt").read_text().splitlines()
    assert command == f"$ {example_of(tools.load(name))}", "run `make examples`"
    assert len(output) > 1


def test_the_man_page_is_current() -> None:
    man_page = generator("man_page")
    assert man_page.PAGE.read_text() == man_page.page(), "run `make docs`"


@pytest.mark.skipif(shutil.which("man") is None, reason="no man on this machine (Debian: apt install man-db)")
def test_man_shows_the_page_without_a_warning() -> None:
    done = subprocess.run(
        ["man", "--warnings", "-P", "cat", "-l", str(ROOT / "docs" / "man" / "hb.1")],
        env={"MANWIDTH": "100", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    for word in (*COMMANDS, *tools.NAMES, "EXIT STATUS", "--ns-of"):
        assert word in done.stdout
