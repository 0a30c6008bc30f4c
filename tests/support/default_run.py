"""Which of the many guests and kernels that a test could take are in the default run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def in_default_run(names: Iterable[object], *kept: object) -> list[Any]:
    """These guests, kernels, or whatever they are, as parameters of a test that costs much: `kept` are in the
    default run, the others in the slow one."""
    return [name if name in kept else pytest.param(name, marks=pytest.mark.slow) for name in names]
