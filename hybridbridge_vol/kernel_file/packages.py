"""Distribution packages, read without dpkg or rpm: `.deb` (ar of tars) and `.rpm` (headers and a cpio).

What is inside of a vmlinuz: `bzimage`, put together by `kernel`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.archives.ar import AR_MAGIC, ar_member
from hybridbridge_vol.kernel_file.archives.cpio import cpio_members
from hybridbridge_vol.kernel_file.archives.member import Member, Wanted
from hybridbridge_vol.kernel_file.archives.rpm import RPM_MAGIC, RPMTAG_REQUIRENAME, rpm_payload, rpm_strings
from hybridbridge_vol.kernel_file.archives.streams import MAX_MEMBER_SIZE, damage_errors, decompressed

__all__ = ["Member", "dependencies", "is_package", "members", "read_vmlinuz"]

_KERNEL_PATHS = ("boot/vmlinuz*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz")
"""Debian's and older SUSE's, Fedora's, SUSE's."""
_KERNEL_PACKAGES = ("linux-image", "linux-binary", "kernel")
"""How packages with a kernel are named (Debian, Debian since 7.2, the rpm distributions)."""


def is_package(head: bytes) -> bool:
    """Whether a file that begins with `head` is a package that `members` reads."""
    return head.startswith((AR_MAGIC, RPM_MAGIC))


def members(path: Path, *patterns: str) -> Iterator[Member]:
    """Files and links of a `.deb` or `.rpm` whose path matches one of the shell patterns; without any, all.

    One member at a time is in memory. Raises KernelFileError if the package is damaged, OSError if it cannot
    be read.
    """

    def wanted(name: str) -> bool:
        return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    with open(path, "rb") as stream:
        head = stream.read(8)
        try:
            if head.startswith(AR_MAGIC):
                yield from _deb_members(stream, "data.tar", wanted)
            elif head.startswith(RPM_MAGIC):
                yield from cpio_members(decompressed(rpm_payload(stream)), wanted)
            else:
                raise KernelFileError(f"{path}: neither a .deb nor a .rpm")
        except damage_errors() as error:
            raise _damaged(path, error) from None


def dependencies(path: Path) -> list[str]:
    """What a `.deb` or `.rpm` depends on, in the package's own words."""
    with open(path, "rb") as stream:
        head = stream.read(8)
        try:
            if head.startswith(RPM_MAGIC):
                return rpm_strings(stream, RPMTAG_REQUIRENAME)
            for member in _deb_members(stream, "control.tar", lambda name: name == "control"):
                for line in member.data.decode("utf-8", "replace").splitlines():
                    if line.startswith("Depends:"):
                        return [item.strip() for item in line.partition(":")[2].split(",")]
        except damage_errors() as error:
            raise _damaged(path, error) from None
    return []


def _deb_members(stream: IO[bytes], prefix: str, wanted: Wanted) -> Iterator[Member]:
    """Wanted files of the tar of a `.deb` whose ar member's name begins with `prefix` (deb(5))."""
    # every session imports this file, and few read a .deb: tarfile alone takes 2 ms
    from hybridbridge_vol.kernel_file.archives.tar import tar_members

    part = ar_member(stream, prefix)
    if part is None:
        raise EOFError(f"it has no {prefix}")
    yield from tar_members(decompressed(part), wanted)


def _damaged(path: Path, error: Exception) -> Exception:
    """The exception to raise for `error`: gzip and bz2 report damage as OSError without a number, devices
    report failure with one."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return KernelFileError(f"{path}: damaged package ({_one_line(error)}); fetch it again")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def read_vmlinuz(path: Path) -> bytes:
    """The kernel that `path` is or contains: a vmlinuz, a `.deb` or a `.rpm`.

    KernelFileError says what is wrong with the file and what to give instead.
    """
    try:
        if path.is_dir():
            raise KernelFileError(f"{path}: a directory; give a vmlinuz, a .deb or a .rpm")
        if path.exists() and not path.is_file():
            raise KernelFileError(f"{path}: not a regular file; give a vmlinuz, a .deb or a .rpm")
        with open(path, "rb") as stream:
            if not is_package(stream.read(8)):
                stream.seek(0)
                return stream.read(MAX_MEMBER_SIZE)
        for member in members(path, *_KERNEL_PATHS):
            if member.data:
                return member.data
        needed = dependencies(path)
    except OSError as error:
        raise KernelFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    kernels = [item for item in needed if item.startswith(_KERNEL_PACKAGES)]
    way_out = f"it depends on {', '.join(kernels)}: give that" if kernels else "give the kernel's own package"
    raise KernelFileError(f"{path}: a package without a kernel (no {_KERNEL_PATHS[0]}); {way_out}")
