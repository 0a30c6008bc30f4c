"""Programs on the shared images."""

from __future__ import annotations

from pathlib import Path

import pytest
from generations import Lab
from hostile_programs import hostile_program
from native_runs import GUESTS_LOCALE, Run, lacking, runner

_ANYWHERE = ("test_filter.py", "test_terminal.py", "test_emulation.py")
_REASON = lacking()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What this machine cannot confine is not run."""
    for item in items:
        if Path(__file__).parent == item.path.parent and item.path.name not in _ANYWHERE:
            item.add_marker(pytest.mark.skipif(bool(_REASON), reason=_REASON))


@pytest.fixture(autouse=True)
def _no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """The width of a terminal is handed to the programs, and pytest-xdist sets one."""
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(lab: Lab) -> Run:
    """`run("6.12", "ps aux")`."""
    return runner(lab, GUESTS_LOCALE)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that tries to get out; see `hostile_programs`."""
    return hostile_program(tmp_path_factory.mktemp("hostile"))
