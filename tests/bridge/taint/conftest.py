"""A small machine under taint for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from small_machine import SmallMachine


@pytest.fixture
def small() -> Iterator[SmallMachine]:
    with closing(SmallMachine()) as small:
        yield small
