"""Kernels that Debian does not build: what the source is asked for, and what is said where there are none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from samples import kernel_builds
from samples.apt import AptError
from samples.kernel_builds import Build, builds


@pytest.mark.parametrize("build", builds().values(), ids=list(builds()))
def test_what_a_kernel_is_built_for_is_in_its_configuration(build: Build) -> None:
    named = [re.findall(r"CONFIG_(\w+)", line) for line in build.wanted()]
    assert sorted(named) == sorted([name] for name in build.must_have)


def test_of_two_fragments_the_later_wins() -> None:
    lines = builds()["single"].configuration().splitlines()
    assert "# CONFIG_SMP is not set" in lines
    assert "CONFIG_SMP=y" not in lines


@pytest.mark.parametrize("build", builds().values(), ids=list(builds()))
def test_an_option_is_given_once(build: Build) -> None:
    names = re.findall(r"CONFIG_\w+", build.configuration())
    assert len(names) == len(set(names))


def test_an_unknown_kernel_is_told_with_those_there_are() -> None:
    with pytest.raises(AptError, match="nonsense: no such kernel to build; there are cfi, "):
        kernel_builds.package_of("nonsense")


def test_a_machine_without_the_tools_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        AptError, match=r"^cfi cannot be built here: apt-get install .*flex.* clang-19 lld-19"
    ):
        kernel_builds.check_tools(builds()["cfi"])
