"""Kernel packages by a short name that outlives their numbers: "6.1-cloud" is the newest such package."""

from __future__ import annotations

import re
from pathlib import Path

from samples.apt import AptError, candidates, download

_SUITES = {"5.10": ("bullseye",), "6.1": ("bookworm",), "6.12": ("bookworm", "trixie"), "7": ("sid",)}
"""Where to look for a series first; a package's full name is looked for in all of them."""


def fetch(kernel: str) -> Path:
    """The `.deb` with the kernel: a path, a package's full name, or a short name as "6.1-cloud",
    "6.12-amd64", "6.1-rt", "7.2-cloud", or "7-cloud" for the newest of all 7.x. AptError if there is none.
    """
    if kernel.endswith(".deb"):
        path = Path(kernel)
        if not path.is_file():
            raise AptError(f"{kernel}: no such file")
        return path
    if kernel.startswith("linux-"):
        match = re.match(r"linux-\w+-(\d+\.\d+)", kernel)
        suites = _suites(match[1] if match else "")
        return download([kernel], suites)[0]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)-(cloud|rt|amd64)", kernel)
    if match is None:
        raise AptError(f"{kernel}: not a kernel; give a .deb, a package's name, or a short name as 6.1-cloud")
    suites = _suites(match[1])
    return download([newest(match[1], match[2], suites)], suites)[0]


def modules_package(package: Path) -> Path:
    """The `.deb` with the modules of the kernel in `package`: itself, or what Debian has split off since 7.x.

    AptError if it cannot be had.
    """
    match = re.match(r"linux-binary-(?:unsigned-)?((\d+\.\d+)[^_]*)", package.name)
    if match is None:
        return package
    return download([f"linux-modules-{match[1]}"], _suites(match[2]))[0]


def _suites(series: str) -> tuple[str, ...]:
    return _SUITES.get(series) or _SUITES.get(series.split(".")[0]) or ("bookworm", "trixie", "sid")


def newest(series: str, flavour: str, suites: tuple[str, ...]) -> str:
    """The name of the newest package of a series (since 7.x the kernel is in linux-binary-*)."""
    flavours = {"cloud": "cloud-amd64", "rt": "rt-amd64", "amd64": "amd64"}
    pattern = rf"linux-(image|binary)-{re.escape(series)}\.[.\d+a-z~-]*?-{flavours[flavour]}"
    names = [name for name in candidates(pattern, suites) if _plain(name, flavour)]
    binaries = [name for name in names if name.startswith("linux-binary")]
    if not (names := binaries or names):
        raise AptError(f"{series}-{flavour}: no such kernel in {', '.join(suites)}")
    return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def _plain(name: str, flavour: str) -> bool:
    """Not another flavour, and with a number of its own (meta packages have none)."""
    other = [word for word in ("cloud", "rt") if word != flavour and f"-{word}-" in name]
    return not other and "unsigned" not in name and re.search(r"-\d+\.\d+\.\d+", name) is not None
