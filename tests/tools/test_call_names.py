"""The names of system calls, by the trusted kernel's own table."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from hybridbridge_vol.tools.system.call_names import CallNames

Lab = Any


@pytest.mark.parametrize(
    ("number", "name"), [(0, "read"), (4, "stat"), (17, "pread"), (63, "uname"), (257, "openat"), (-1, "")]
)
def test_a_call_has_the_name_that_programs_know(lab: Lab, generation: str, number: int, name: str) -> None:
    assert CallNames(lab.session(generation).bridge).name(number) == name


def test_who_asks_for_names_does_not_keep_the_kernel_s_memory(lab: Lab) -> None:
    names = CallNames(lab.session("6.12").bridge)
    assert names.name(0) == "read"
    kept = weakref.ref(names)
    del names
    assert kept() is None
