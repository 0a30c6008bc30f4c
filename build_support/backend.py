"""The build backend: setuptools, and a C compiler from the package index where the machine has none."""

from __future__ import annotations

from typing import Any

from native import system_compiler
from setuptools import build_meta
from setuptools.build_meta import *


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What building takes besides setuptools."""
    return [
        *build_meta.get_requires_for_build_wheel(config_settings),
        *([] if system_compiler() else ["ziglang"]),
    ]
