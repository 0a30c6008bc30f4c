"""Kernel packages by a short name that outlives their numbers: "6.1-cloud" is the newest such package."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from samples.apt import AptError, candidates, download
from samples.kernel_builds import package_of
from samples.series import suites

BUILT = "built-"
"""What begins the short name of a kernel that is not Debian's, but built here (samples/kernel_builds.py)."""


@cache
def fetch(kernel: str) -> Path:
    """The `.deb` with the kernel: a path, a package's full name, or a short name as "6.1-cloud",
    "6.12-amd64", "6.1-rt", "7.2-cloud", or "7-cloud" for the newest of all 7.x, or "built-cfi" for one that
    is built here. AptError if there is none. Which one is the newest is asked once per run.
    """
    if kernel.startswith(BUILT):
        return package_of(kernel.removeprefix(BUILT))
    if kernel.endswith(".deb"):
        path = Path(kernel)
        if not path.is_file():
            raise AptError(f"{kernel}: no such file")
        return path
    if kernel.startswith("linux-"):
        match = re.match(r"linux-\w+-(\d+\.\d+)", kernel)
        return download([kernel], suites(match[1] if match else ""))[0]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)-(cloud|rt|amd64)", kernel)
    if match is None:
        raise AptError(f"{kernel}: not a kernel; give a .deb, a package's name, or a short name as 6.1-cloud")
    found_in = suites(match[1])
    return download([newest(match[1], match[2], found_in)], found_in)[0]


@cache
def modules_package(package: Path) -> Path:
    """The `.deb` with the modules of the kernel in `package`: itself, or what Debian has split off since 7.x.

    AptError if it cannot be had.
    """
    match = re.match(r"linux-binary-(?:unsigned-)?((\d+\.\d+)[^_]*)", package.name)
    if match is None:
        return package
    return download([f"linux-modules-{match[1]}"], suites(match[2]))[0]


def newest(series: str, flavour: str, found_in: tuple[str, ...]) -> str:
    """The name of the newest package of a series (since 7.x the kernel is in linux-binary-*)."""
    flavours = {"cloud": "cloud-amd64", "rt": "rt-amd64", "amd64": "amd64"}
    pattern = rf"linux-(image|binary)-{re.escape(series)}\.[.\d+a-z~-]*?-{flavours[flavour]}"
    names = [name for name in candidates(pattern, found_in) if _plain(name, flavour)]
    binaries = [name for name in names if name.startswith("linux-binary")]
    if not (names := binaries or names):
        raise AptError(f"{series}-{flavour}: no such kernel in {', '.join(found_in)}")
    return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def _plain(name: str, flavour: str) -> bool:
    """Not another flavour, and with a number of its own (meta packages have none)."""
    other = [word for word in ("cloud", "rt") if word != flavour and f"-{word}-" in name]
    return not other and "unsigned" not in name and re.search(r"-\d+\.\d+\.\d+", name) is not None
