"""Distribution packages, read without their own programs: `.deb` (an ar of tars), `.rpm` (headers and a
cpio), and those that are tars: `.apk` (Alpine), `.pkg.tar.zst` (Arch Linux), and others of that form.

What is inside of a vmlinuz: `bzimage`, put together by `kernel`.
"""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hybridbridge_vol.errors import ForeignKernel, KernelFileError, NoKernelInPackage
from hybridbridge_vol.kernel_file.archives.ar import AR_MAGIC, ar_member
from hybridbridge_vol.kernel_file.archives.cpio import cpio_members
from hybridbridge_vol.kernel_file.archives.member import Member, Wanted
from hybridbridge_vol.kernel_file.archives.rpm import RPM_MAGIC, RPMTAG_REQUIRENAME, rpm_payload, rpm_strings
from hybridbridge_vol.kernel_file.archives.streams import MAX_MEMBER_SIZE, Slice, damage_errors, decompressed
from hybridbridge_vol.kernel_file.foreign_kernels import KINDS, what_foreign
from hybridbridge_vol.kernel_file.unified_image import inner_kernel

__all__ = ["Member", "dependencies", "is_package", "members", "read_vmlinuz"]

_KERNEL_PATHS = (
    "boot/vmlinuz*",
    "lib/modules/*/vmlinuz",
    "usr/lib/modules/*/vmlinuz",
    "lib/modules/*/vmlinuz*.efi",
    "usr/lib/modules/*/vmlinuz*.efi",
)
"""Debian's, Alpine's and older SUSE's, Fedora's, SUSE's and Arch's; unified kernel images (Fedora's
kernel-uki-virt)."""
_TAR_MAGIC_OFFSET, _TAR_MAGIC = 257, b"ustar"
_PROGRAMS = ("usr/bin/linux", "usr/bin/linux.uml", "usr/bin/linux-uml")
"""Where packages have user-mode Linux."""
_KERNEL_PACKAGES = ("linux-image", "linux-binary", "kernel")
"""How packages with a kernel are named (Debian, Debian since 7.2, the rpm distributions)."""


def is_package(stream: IO[bytes]) -> bool:
    """Whether a file is a package that `members` reads."""
    stream.seek(0)
    return stream.read(8).startswith((AR_MAGIC, RPM_MAGIC)) or _is_tar(stream)


def _is_tar(stream: IO[bytes]) -> bool:
    """Whether a file is a tar, compressed or not. A kernel may be compressed, too."""
    try:
        head = decompressed(_whole(stream)).read(_TAR_MAGIC_OFFSET + len(_TAR_MAGIC))
    except damage_errors():
        return False
    return head[_TAR_MAGIC_OFFSET:] == _TAR_MAGIC


def _whole(stream: IO[bytes]) -> Slice:
    return Slice(stream, 0, stream.seek(0, io.SEEK_END))


def members(path: Path, *patterns: str) -> Iterator[Member]:
    """Files and links of a package whose path matches one of the shell patterns; without any, all.

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
            elif _is_tar(stream):
                yield from _tar_members(_whole(stream), wanted)
            else:
                raise KernelFileError(f"{path}: not a package that is known: {KINDS}")
        except damage_errors() as error:
            raise _damaged(path, error) from None


def dependencies(path: Path) -> list[str]:
    """What a package depends on, in the package's own words."""
    with open(path, "rb") as stream:
        head = stream.read(8)
        try:
            if head.startswith(RPM_MAGIC):
                return rpm_strings(stream, RPMTAG_REQUIRENAME)
            if not head.startswith(AR_MAGIC):
                return _dependencies_of_tar(stream)
            for member in _deb_members(stream, "control.tar", lambda name: name == "control"):
                for line in member.data.decode("utf-8", "replace").splitlines():
                    if line.startswith("Depends:"):
                        return [item.strip() for item in line.partition(":")[2].split(",")]
        except damage_errors() as error:
            raise _damaged(path, error) from None
    return []


def _deb_members(stream: IO[bytes], prefix: str, wanted: Wanted) -> Iterator[Member]:
    """Wanted files of the tar of a `.deb` whose ar member's name begins with `prefix` (deb(5))."""
    part = ar_member(stream, prefix)
    if part is None:
        raise EOFError(f"it has no {prefix}")
    yield from _tar_members(part, wanted)


def _tar_members(part: Slice, wanted: Wanted) -> Iterator[Member]:
    # every session imports this file, and few read a package: tarfile alone takes 2 ms
    from hybridbridge_vol.kernel_file.archives.tar import tar_members

    yield from tar_members(decompressed(part), wanted)


def _dependencies_of_tar(stream: IO[bytes]) -> list[str]:
    """`depend` in .PKGINFO, which Alpine's and Arch's packages have (abuild, PKGBUILD(5))."""
    for member in _tar_members(_whole(stream), lambda name: name == ".PKGINFO"):
        pairs = (line.split(" = ", 1) for line in member.data.decode("utf-8", "replace").splitlines())
        return [pair[1].strip() for pair in pairs if len(pair) == 2 and pair[0] == "depend"]
    return []


def _damaged(path: Path, error: Exception) -> Exception:
    """The exception to raise for `error`: gzip and bz2 report damage as OSError without a number, devices
    report failure with one."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return KernelFileError(f"{path}: damaged package ({_one_line(error)}); fetch it again")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def read_vmlinuz(path: Path) -> bytes:
    """The kernel that `path` is or contains: a vmlinuz, a unified kernel image or a package.

    KernelFileError says what is wrong with the file and what to give instead.
    """
    try:
        if path.is_dir():
            raise KernelFileError(f"{path}: a directory; give a vmlinuz or a package ({KINDS})")
        if path.exists() and not path.is_file():
            raise KernelFileError(f"{path}: not a regular file; give a vmlinuz or a package ({KINDS})")
        with open(path, "rb") as stream:
            if not is_package(stream):
                stream.seek(0)
                return inner_kernel(stream.read(MAX_MEMBER_SIZE), str(path))
        for member in members(path, *_KERNEL_PATHS):
            if member.data:
                return inner_kernel(member.data, str(path))
        for member in members(path, *_PROGRAMS):
            if (foreign := what_foreign(member.data)) is not None:
                raise ForeignKernel(f"{path}: {foreign}")
        needed = dependencies(path)
    except OSError as error:
        raise KernelFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    kernels = [item for item in needed if item.startswith(_KERNEL_PACKAGES)]
    way_out = f"it depends on {', '.join(kernels)}: give that" if kernels else "give the kernel's own package"
    raise NoKernelInPackage(f"{path}: a package without a kernel (no {_KERNEL_PATHS[0]}); {way_out}")
