"""A program that uses AVX if the processor has it, or that uses it anyway."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SOURCE = Path(__file__).parent / "vector_program.c"


def vector_programs(folder: Path) -> Path:
    """A folder with both: `asks` and `does`, compiled by the machine's own compiler, which knows AVX."""
    place = importlib.util.spec_from_file_location("native", _ROOT / "build_support" / "native.py")
    assert place is not None and place.loader is not None
    native = importlib.util.module_from_spec(place)
    place.loader.exec_module(native)
    compiler = native.system_compiler()
    if compiler is None:
        pytest.skip("no C compiler here that knows AVX")
    for name, flags in (("asks", []), ("does", ["-mavx"])):
        subprocess.run([*compiler, "-O2", *flags, "-o", folder / name, _SOURCE], check=True)
    return folder
