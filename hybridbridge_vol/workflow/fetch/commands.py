"""The documented commands by which each distribution's own client fetches a kernel's packages without
installing them, and where to look for versions that are served no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hybridbridge_vol.snapshot.kernel_origin import KernelOrigin

Command = tuple[str, ...]


class Plan(NamedTuple):
    """How to fetch a kernel's packages into the current folder.

    The first of `kernel` that succeeds will do; of `modules` all that succeed. `check` is the beginning of a
    command that says about a package whose signature is good `signed`; without one the client checks it
    itself, if what the command `settings` prints has the line `must_be_set`. `needs_root`: the client refuses
    to work for other users. `newest_only`: it has no other version.
    """

    kernel: Sequence[Command]
    modules: Sequence[Command]
    check: Command = ()
    signed: str = ""
    settings: Command = ()
    must_be_set: str = ""
    needs_root: bool = False
    newest_only: bool = False


def plan_for(origin: KernelOrigin) -> Plan:
    """The commands for a kernel."""
    return _PLANS[origin.client](origin)


def _apt(origin: KernelOrigin) -> Plan:
    pinned = f"={origin.version}" if origin.version else ""
    return Plan(
        [("apt-get", "download", f"{name}{pinned}") for name in origin.packages],
        [("apt-get", "download", f"{name}{pinned}") for name in origin.modules],
    )


def _dnf(origin: KernelOrigin) -> Plan:
    """dnf's plugin `download` (part of dnf 5), which checks the metadata; rpmkeys checks the packages."""
    of_release = (f"--releasever={origin.branch}",) if origin.distribution == "Fedora" else ()
    start = ("dnf", "-q", *of_release, "download")
    return Plan(
        [(*start, name) for name in origin.packages],
        [(*start, name) for name in origin.modules],
        ("rpmkeys", "--checksig"),
        "signatures OK",
    )


def _zypper(origin: KernelOrigin) -> Plan:
    """A kernel's release leaves out the last number of its package's, which counts rebuilds: 1 nearly
    always."""
    exact = f"{origin.packages[0]} = {origin.version}.1"
    command = ("zypper", "--non-interactive", "--pkg-cache-dir", ".", "download", exact)
    return Plan([command], [], ("rpmkeys", "--checksig"), "signatures OK", needs_root=True)


def _pacman(origin: KernelOrigin) -> Plan:
    """`pacman -Sw` downloads, checks the signatures as pacman.conf(5) says (SigLevel) and installs nothing;
    it has the newest version only."""
    command = ("pacman", "-Sw", "--noconfirm", "--cachedir", ".", origin.packages[0])
    settings = ("pacman-conf", "SigLevel")
    return Plan(
        [command], [], settings=settings, must_be_set="PackageRequired", needs_root=True, newest_only=True
    )


def _apk(origin: KernelOrigin) -> Plan:
    """`apk fetch` checks the signature of the index, and the packages against it."""
    return Plan([("apk", "fetch", f"{origin.packages[0]}={origin.version}")], [])


_PLANS: dict[str, Callable[[KernelOrigin], Plan]] = {
    "apt": _apt,
    "dnf": _dnf,
    "zypper": _zypper,
    "pacman": _pacman,
    "apk": _apk,
}


def where_else(origin: KernelOrigin) -> str:
    """Where a version is that the distribution's mirrors serve no more."""
    package, version, release = origin.packages[0], origin.version, origin.release
    build = f"kernel-{release.removesuffix('.x86_64')}"
    places = {
        "Debian": f"Debian's archive of snapshots keeps every version: look for {package} {version}",
        "Ubuntu": f"Launchpad keeps every version of {package}: look for {version}",
        "Fedora": f"Koji keeps it: 'koji download-build --arch=x86_64 {build}'",
        "Arch Linux": f"the Arch Linux Archive keeps it: {package}-{version}-x86_64.pkg.tar.zst",
        "Alpine": f"look for {package}-{version}.apk in the repository of {origin.branch or 'its branch'}",
    }
    default = f"look for {package} of release {release} in the vendor's archive of older versions"
    return places.get(origin.distribution, default)
