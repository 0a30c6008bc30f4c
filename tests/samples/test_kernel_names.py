"""Kernels by a short name, by a package's name, by file."""

from __future__ import annotations

from pathlib import Path

import pytest

from samples.apt import AptError
from samples.kernels import fetch, modules_package


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize(
    ("kernel", "package"),
    [
        ("5.10-cloud", "linux-image-5.10.0-46-cloud-amd64"),
        ("6.1-cloud", "linux-image-6.1.0-56-cloud-amd64"),
        ("6.1-amd64", "linux-image-6.1.0-56-amd64"),
        ("6.1-rt", "linux-image-6.1.0-57-rt-amd64"),
        ("6.12-cloud", "linux-image-6.12.117+deb13-cloud-amd64"),
        ("6.12-amd64", "linux-image-6.12.117+deb13-amd64"),
        ("7.2-cloud", "linux-binary-7.2.9-cloud-amd64"),
        ("7-cloud", "linux-binary-7.2.9-cloud-amd64"),
        ("6-cloud", "linux-image-6.12.117+deb13-cloud-amd64"),
    ],
)
def test_a_short_name_is_the_newest_kernel_of_its_series(kernel: str, package: str) -> None:
    assert fetch(kernel).name == f"{package}_1_amd64.deb"


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize(
    "package",
    [
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.12.99+deb13-cloud-amd64",
        "linux-binary-7.2.9-cloud-amd64",
    ],
)
def test_a_package_s_full_name_is_that_package(package: str) -> None:
    assert fetch(package).name == f"{package}_1_amd64.deb"


def test_a_file_is_taken_as_it_is(package: Path) -> None:
    assert fetch(str(package)) == package


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("kernel", ["6.7-cloud", "5.10-rt", "linux-image-6.1.0-1-cloud-amd64"])
def test_a_kernel_that_debian_does_not_have_is_told(kernel: str) -> None:
    with pytest.raises(AptError, match=kernel) as caught:
        fetch(kernel)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kernel", ["", "6.1", "6.-cloud", "6.1-arm64", "vmlinuz", "../6.1-cloud"])
def test_what_is_no_kernel_s_name_is_told_with_what_would_be_one(kernel: str) -> None:
    with pytest.raises(
        AptError, match="not a kernel; give a .deb, a package's name, or a short name as 6.1-cloud"
    ):
        fetch(kernel)


def test_a_kernel_that_is_not_built_here_is_told_with_those_that_are() -> None:
    with pytest.raises(AptError, match="^none: no such kernel to build; there are cfi, "):
        fetch("built-none")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AptError, match="none.deb: no such file"):
        fetch(str(tmp_path / "none.deb"))


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize(
    ("kernel", "modules"),
    [
        ("6.1-cloud", "linux-image-6.1.0-56-cloud-amd64"),
        ("7.2-cloud", "linux-modules-7.2.9-cloud-amd64"),
    ],
)
def test_modules_come_with_the_kernel_or_in_a_package_of_their_own(kernel: str, modules: str) -> None:
    assert modules_package(fetch(kernel)).name == f"{modules}_1_amd64.deb"
