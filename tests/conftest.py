"""Real guests and real trusted kernels, made once per run and shared.

Images come from the cache of sample images (made there on first use, under software emulation); the store of
trusted kernels is made fresh for each run. Every image's SHA-256 is compared at the end of the run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from generations import GENERATIONS, RICH, Lab
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")  # how long an example takes is the machine's affair

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a run in the background of a shell inherits this, and would hand it to the programs that tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab, whose store all processes of pytest-xdist share; at its end no image may have changed by a
    byte."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    (folder / "store").mkdir(exist_ok=True)
    lab = Lab(folder / "store")
    yield lab
    assert lab.close() == []


@pytest.fixture
def kernel_packages(lab: Lab) -> list[Path]:
    """The kernel package of each generation."""
    return [lab.sample(name).kernel_package for name in GENERATIONS]


@pytest.fixture(params=sorted(GENERATIONS))
def generation(request: pytest.FixtureRequest) -> str:
    """Each kernel generation in turn."""
    return str(request.param)


@pytest.fixture(params=RICH)
def rich_generation(request: pytest.FixtureRequest) -> str:
    """Each generation whose image has the whole workload and the words of every native tool."""
    return str(request.param)
