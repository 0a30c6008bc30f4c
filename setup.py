"""What setup.cfg cannot say: the native part is compiled, and the wheel serves every Python 3 of the
platform."""

import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "build_support"))

from native import LIBRARY, build


class BuildWithNative(build_py):
    """The packages, and the shared library beside them."""

    def run(self) -> None:
        super().run()
        build(HERE, Path(self.build_lib).resolve() / LIBRARY)


class PlatformWheel(bdist_wheel):
    """Tagged for the platform, not for a version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class NativeDistribution(Distribution):
    """Not pure Python."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildWithNative, "bdist_wheel": PlatformWheel}, distclass=NativeDistribution)
