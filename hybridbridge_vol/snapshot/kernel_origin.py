"""Where a kernel comes from, by its banner: the distribution, and the packages that have it.

A banner is written by init/version-timestamp.c (init/version.c before 6.2): release, who built it where, the
compiler, and the text that the distribution's build gave as KBUILD_BUILD_VERSION and KBUILD_BUILD_TIMESTAMP.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class KernelOrigin:
    """A distribution's kernel.

    `release` is what uname -r says; `client` the program that gets the distribution's packages; `packages`
    the names that the kernel's own package may have, the likeliest first; `modules` those of packages with
    its modules, not all of which exist everywhere; `version` the package's version, None if the banner does
    not tell it; `branch` the distribution's own release, where the banner names it.
    """

    release: str
    distribution: str
    client: str
    packages: tuple[str, ...]
    modules: tuple[str, ...] = ()
    version: str | None = None
    branch: str | None = None


def origin_of(banner: str) -> KernelOrigin | None:
    """The distribution and packages of a kernel; None if the banner does not name a distribution."""
    match = re.match(r"Linux version (\S+) \(([^)]*)\)", banner)
    if match is None:
        return None
    release, builder = match[1], match[2]
    if not re.fullmatch(r"[\w.+~-]+", release):
        return None  # it becomes a part of commands
    found = (rule(release, builder, banner) for rule in _RULES)
    return next((origin for origin in found if origin is not None), None)


def package_of(banner: str) -> str | None:
    """The package to fetch for a kernel's banner, with its version if the banner states it; None if the
    banner does not name a distribution."""
    origin = origin_of(banner)
    if origin is None:
        return None
    stated = origin.version is not None and origin.version in banner
    return origin.packages[0] + (f" (version {origin.version})" if stated else "")


def _debian(release: str, builder: str, banner: str) -> KernelOrigin | None:
    """Debian and what is built like it: "#1 SMP Debian 6.1.76-1 (2024-02-01)"."""
    stated = re.search(r"#\d+ [\w ]*?\b([A-Z]\w+) (\d[\w.+:~-]*) \(\d{4}-\d\d-\d\d[^)]*\)\s*$", banner)
    if "debian-kernel@" not in builder and stated is None:
        return None
    name = stated[1] if stated else "Debian"
    if name == "PMX":
        names = [f"proxmox-kernel-{release}-signed", f"proxmox-kernel-{release}", f"pve-kernel-{release}"]
        return KernelOrigin(release, "Proxmox", "apt", tuple(names))
    names = [f"linux-{kind}{release}" for kind in ("image-", "binary-", "binary-unsigned-")]
    names.insert(1, f"{names[0]}-unsigned")
    return KernelOrigin(release, name, "apt", tuple(names), version=stated[2] if stated else None)


def _ubuntu(release: str, builder: str, banner: str) -> KernelOrigin | None:
    """Ubuntu: "(buildd@lcy02-amd64-045) (gcc (Ubuntu 11.4.0-1ubuntu1~22.04) ...) #101-Ubuntu SMP ..."."""
    if not builder.startswith("buildd@") or not re.search(r"-Ubuntu |\(Ubuntu ", banner):
        return None
    upload = re.search(r"#(\d[\w.~]*)-Ubuntu\b", banner)
    numbers = re.match(r"[\d.]+-\d+", release)
    version = f"{numbers[0]}.{upload[1]}" if numbers and upload else None
    packages = (f"linux-image-{release}", f"linux-image-unsigned-{release}")
    modules = (f"linux-modules-{release}", f"linux-modules-extra-{release}")
    return KernelOrigin(release, "Ubuntu", "apt", packages, modules, version)


_RPM_RELEASE = re.compile(r"\.(fc|el|amzn|oe|azl|cm)(\d+)\w*(?:\.x86_64)?(?:\+(\w+))?$")
_RPM_DISTRIBUTIONS = {
    "fc": "Fedora", "el": "Red Hat Enterprise Linux or its like", "amzn": "Amazon Linux", "oe": "openEuler",
    "azl": "Azure Linux", "cm": "CBL-Mariner",
}  # fmt: skip
_WHOLE_KERNEL = ("amzn", "oe", "azl", "cm")
"""Distributions whose `kernel` package has the kernel and its modules; others split it."""


def _rpm(release: str, _builder: str, _banner: str) -> KernelOrigin | None:
    """Kernels whose release names the distribution's: 6.5.6-300.fc39.x86_64, 5.14.0-362.8.1.el9_3.x86_64."""
    match = _RPM_RELEASE.search(release)
    if match is None:
        return None
    kind, branch, flavour = match.groups()
    base = release.partition("+")[0]
    stem = "kernel-uek" if "uek" in release else f"kernel-{flavour}" if flavour else "kernel"
    packages = (f"{stem}-core-{base}", f"{stem}-{base}")
    if kind in _WHOLE_KERNEL:
        series = ".".join(base.split(".")[:2])
        packages = (f"{stem}-{base}", f"{stem}{series}-{base}")
    parts = ("modules", "modules-core", "modules-extra")
    modules = tuple(f"{stem}-{part}-{base}" for part in parts)
    return KernelOrigin(release, _RPM_DISTRIBUTIONS[kind], "dnf", packages, modules, branch=branch)


def _suse(release: str, builder: str, banner: str) -> KernelOrigin | None:
    """SUSE: "5.14.21-150500.55.39-default (geeko@buildhost) (gcc (SUSE Linux) ...)"."""
    if not builder.startswith("geeko@") and "(SUSE Linux)" not in banner:
        return None
    version, _dash, flavour = release.rpartition("-")
    if not version:
        return None
    return KernelOrigin(release, "SUSE", "zypper", (f"kernel-{flavour}",), version=version)


def _arch(release: str, builder: str, _banner: str) -> KernelOrigin | None:
    """Arch Linux: "6.6.8-arch1-1 (linux@archlinux)", "6.6.8-zen1-1-zen (linux-zen@archlinux)": the package
    is the builder, and its version is the release without a flavour at its end."""
    package, _at, host = builder.partition("@")
    if host != "archlinux" or not re.fullmatch(r"linux[\w-]*", package):
        return None
    flavour = package.removeprefix("linux")
    version, _dash, number = release.removesuffix(flavour).rpartition("-")
    version = re.sub(r"^(\d+\.\d+)\.0(?=-)", r"\1", version).replace("-", ".")
    return KernelOrigin(release, "Arch Linux", "pacman", (package,), version=f"{version}-{number}")


def _alpine(release: str, builder: str, banner: str) -> KernelOrigin | None:
    """Alpine: "6.1.70-0-virt (buildozer@build-3-18-x86_64) ... #1-Alpine"."""
    match = re.match(r"([\d.]+)-(\d+)-(\w+)$", release)
    if match is None or "Alpine" not in banner:
        return None
    branch = re.search(r"build-(\d+)-(\d+)-", builder)
    return KernelOrigin(
        release,
        "Alpine",
        "apk",
        (f"linux-{match[3]}",),
        version=f"{match[1]}-r{match[2]}",
        branch=f"v{branch[1]}.{branch[2]}" if branch else None,
    )


_RULES: tuple[Callable[[str, str, str], KernelOrigin | None], ...] = (
    _debian,
    _ubuntu,
    _rpm,
    _suse,
    _arch,
    _alpine,
)
