"""`hb` starts without what the answer does not need: this is the measured reason for its late imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hybridbridge_vol import tools

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "unicorn", "volatility3", "numpy", "json", "csv", "capstone", "elftools", "pathlib", "shutil", "datetime",
    "msgspec", "jinja2", "pyarrow", "argcomplete", "textwrap",
)  # fmt: skip


def loaded(program: str, *modules: str) -> list[str]:
    """Those of the modules that the program has loaded when it ends."""
    program += "\nprint(*[name for name in sys.argv[1:] if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}", *modules],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return done.stdout.splitlines()[-1].split()


def test_starting_costs_no_module_that_the_answer_does_not_need() -> None:
    others = [f"hybridbridge_vol.tools.{name}" for name in tools.NAMES if name != "ps"]
    others += [f"hybridbridge_vol.cli.{name}" for name in ("batch", "info", "memo", "regress", "trust")]
    program = "from hybridbridge_vol.cli.main import parser; parser(['run', 'x', 'ps'])"
    assert loaded(program, *HEAVY, *others) == []


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["nonsense"]])
def test_what_names_no_command_loads_none(arguments: list[str]) -> None:
    program = (
        "import contextlib; from hybridbridge_vol.cli.main import main\n"
        f"with contextlib.suppress(SystemExit): main({arguments})"
    )
    tool_modules = [f"hybridbridge_vol.tools.{name}" for name in tools.NAMES]
    unneeded = [name for name in HEAVY if name != "textwrap"]
    assert loaded(program, *unneeded, *tool_modules, "hybridbridge_vol.cli.run") == []


def test_importing_the_package_of_commands_loads_none_of_them() -> None:
    assert loaded("import hybridbridge_vol.cli", *HEAVY, "argparse", "hybridbridge_vol.cli.main") == []


def test_describing_every_tool_loads_nothing_that_answers_with_it() -> None:
    """Volatility imports every plugin at each start; what only an answer needs is loaded with the answer."""
    engine = [
        f"hybridbridge_vol.{name}"
        for name in (
            "bridge", "machine", "memory_image", "trust", "guest.session", "guest.files",
            "netlink.conntrack", "netlink.nftables.listing", "xtables.entries",
        )
    ]  # fmt: skip
    program = (
        "from hybridbridge_vol import tools, volatility_plugin\nfor name in tools.NAMES: tools.load(name)"
    )
    assert loaded(program, *engine, "unicorn", "capstone") == []
