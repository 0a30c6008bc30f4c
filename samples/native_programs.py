"""Debian's own programs, unpacked into a folder, to be run on images."""

from __future__ import annotations

import functools
from pathlib import Path

from hybridbridge_vol.kernel_file.packages import members
from samples.apt import download, own_suite, with_libraries
from samples.unpacked import unpacked

PACKAGES = (
    "coreutils", "findutils", "procps", "kmod", "iproute2", "net-tools", "util-linux", "util-linux-extra",
    "mount", "hostname", "sysstat", "lsof", "busybox-static", "dash",
    "bpftool", "nftables", "conntrack", "iptables", "wireguard-tools", "python3-psutil", "duf",
)  # fmt: skip
_WANTED = (
    "bin/*",
    "sbin/*",
    "usr/bin/*",
    "usr/sbin/*",
    "lib/x86_64-linux-gnu/*",
    "usr/lib/x86_64-linux-gnu/*",
    "usr/lib/python3/dist-packages/psutil/*",
)
_OF_THE_HOST = ("libc6_", "libcrypt1_", "libgcc-s1_", "gcc-12-base_", "libc-bin_")
"""Packages that every machine has, and whose files must fit its dynamic linker."""


@functools.cache
def packages() -> list[Path]:
    """The packages, of this machine's Debian; their names tell the versions."""
    suites = (own_suite(),)
    return [
        path
        for path in download(with_libraries(PACKAGES, suites), suites)
        if not path.name.startswith(_OF_THE_HOST)
    ]


@functools.cache
def tools_folder() -> Path:
    """The folder, made once and kept with the samples."""
    return unpacked("tools", packages(), _unpack)


def _unpack(package: Path, tree: Path) -> None:
    for member in members(package, *_WANTED):
        path = tree / member.name.removeprefix("./")
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.link:
            if not path.is_symlink() and not path.exists():
                path.symlink_to(member.link)
        elif member.data or member.mode & 0o111:
            path.unlink(missing_ok=True)
            path.write_bytes(member.data)
            path.chmod(member.mode & 0o777)
