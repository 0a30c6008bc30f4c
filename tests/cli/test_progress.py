"""The progress bar: on a terminal, for long work, and gone afterwards."""

from __future__ import annotations

import io

import pytest

from hybridbridge_vol import progress as cli_progress
from hybridbridge_vol.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error as a terminal, from inside the test (between set-up and test pytest puts its own
    back)."""
    made = Terminal()
    monkeypatch.setattr("sys.stderr", made)
    return made


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with Progress() as progress:
        progress(0.0, "start")
        progress(1.0, "end")
    assert screen.getvalue() == ""


def test_long_work_shows_a_bar_and_leaves_a_clean_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    monkeypatch.setattr(cli_progress, "PATIENCE", 0.0)
    with Progress() as progress:
        progress(0.5, "booting")
        assert "[###############...............]  50% booting" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_a_pipe_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stderr", pipe)
    monkeypatch.setattr(cli_progress, "PATIENCE", 0.0)
    with Progress() as progress:
        progress(7.0, "nonsense")
    assert pipe.getvalue() == ""
