"""Distribution packages, read without dpkg or rpm: `.deb` (ar of tars) and `.rpm` (headers and a cpio)."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file import archives
from hybridbridge_vol.kernel_file.archives import AR_MAGIC, MAX_MEMBER_SIZE, RPM_MAGIC, Member

__all__ = ["Member", "dependencies", "is_package", "members", "read_vmlinuz"]

_KERNEL_PATHS = ("boot/vmlinuz*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz")
"""Debian's and older SUSE's, Fedora's, SUSE's."""
_KERNEL_PACKAGES = ("linux-image", "linux-binary", "kernel")
"""How packages with a kernel are named (Debian, Debian since 7.2, the rpm distributions)."""


def is_package(head: bytes) -> bool:
    """Whether a file that begins with `head` is a package that `members` reads."""
    return head.startswith((AR_MAGIC, RPM_MAGIC))


def members(path: Path, *patterns: str) -> Iterator[Member]:
    """Files and links of a `.deb` or `.rpm` whose path matches one of the shell patterns; all without any.

    A stream: one member at a time is in memory. Raises KernelFileError if the package is damaged, OSError if
    it cannot be read.
    """

    def wanted(name: str) -> bool:
        return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    with open(path, "rb") as stream:
        head = stream.read(8)
        try:
            if head.startswith(AR_MAGIC):
                yield from archives.tar_members(_deb_part(stream, "data.tar"), wanted)
            elif head.startswith(RPM_MAGIC):
                yield from archives.cpio_members(archives.decompressed(archives.rpm_payload(stream)), wanted)
            else:
                raise KernelFileError(f"{path}: neither a .deb nor a .rpm")
        except archives.damage_errors() as error:
            raise _damaged(path, error) from None


def dependencies(path: Path) -> list[str]:
    """What a `.deb` or `.rpm` says it depends on, in its own words."""
    with open(path, "rb") as stream:
        head = stream.read(8)
        try:
            if head.startswith(RPM_MAGIC):
                return archives.rpm_strings(stream, archives.RPMTAG_REQUIRENAME)
            control = archives.tar_members(_deb_part(stream, "control.tar"), lambda name: name == "control")
            for member in control:
                for line in member.data.decode("utf-8", "replace").splitlines():
                    if line.startswith("Depends:"):
                        return [item.strip() for item in line.partition(":")[2].split(",")]
        except archives.damage_errors() as error:
            raise _damaged(path, error) from None
    return []


def _deb_part(stream: IO[bytes], prefix: str) -> IO[bytes]:
    """The decompressed tar of a `.deb` whose ar member's name begins with `prefix` (deb(5))."""
    part = archives.ar_member(stream, prefix)
    if part is None:
        raise EOFError(f"it has no {prefix}")
    return archives.decompressed(part)


def _damaged(path: Path, error: Exception) -> Exception:
    """What to raise for `error`: gzip and bz2 report damage as OSError without a number, devices with one."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return KernelFileError(f"{path}: damaged package ({_one_line(error)}); fetch it again")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def read_vmlinuz(path: Path) -> bytes:
    """The bytes of the kernel that `path` is or contains: a vmlinuz, a `.deb` or a `.rpm`.

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
