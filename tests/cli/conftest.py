"""`hb` in this process, over this machine instead of an image."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from live_kernel import LiveKernel, module_of

from hybridbridge_vol.cli import main as cli

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
