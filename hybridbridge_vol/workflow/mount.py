"""The guest's tree of files as a read-only FUSE file system.

mfusepy serves it: it is a maintained binding of libfuse 2 and 3 by ctypes, so nothing has to be compiled, and
its calls come one at a time in one thread, which is what a session can answer. pyfuse3 would need an event
loop and a compiler.

A page that the guest's memory lacks is EIO, never zeros. Symbolic links are rewritten to stay inside of the
mount: an absolute target would otherwise be followed on the examiner's machine.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mfusepy

from hybridbridge_vol.errors import AttachError, CallRolledBack, OptionError
from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.pseudo_file_systems import PLACES
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.toolkit.reading import in_guest

BLOCK_SIZE = 1 << 20
"""Bytes that are read of a file at once."""
MAX_BLOCKS = 64
"""Blocks that are kept: files are mostly read from their beginning to their end."""
MAX_ATTRIBUTES = 1 << 16
"""Answers about entries that are kept."""
NOT_MOUNTED = "user.hybridbridge"
"""The extended attribute of a directory at which a pseudo file system is shown that the guest had not mounted
there."""
STANDS_STILL = 86400
"""Seconds for which the kernel may keep names and attributes: a snapshot does not change."""
OPTIONS = {
    "ro": True, "nodev": True, "nosuid": True, "noexec": True, "fsname": "hybridbridge",
    "attr_timeout": STANDS_STILL, "entry_timeout": STANDS_STILL,
}  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")


def _or_eio(method: Callable[P, R]) -> Callable[P, R]:
    """A call into the kernel that was rolled back is EIO; so is what the guest's kernel has no memory for: an
    inode or a page that it would have to read (see the policy)."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except CallRolledBack as error:
            raise OSError(errno.EIO, error.reason) from None
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
            raise

    return call


class SnapshotTree(mfusepy.Operations):  # type: ignore[misc]
    """What libfuse asks, answered by a session. Paths begin at the root of the guest."""

    use_ns = True

    def __init__(self, session: Session) -> None:
        self._files = session.files
        self._unmounted = [found for found in session.files.all_unmounted() if not found.missing]
        self._attributes: dict[str, FileAttributes] = {}
        self._blocks: dict[tuple[str, int], bytes | OSError] = {}

    @_or_eio
    def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
        seen = self._attributes_of(path)
        return {
            "st_mode": seen.mode,
            "st_ino": seen.ino,
            "st_nlink": seen.nlink,
            "st_uid": seen.uid,
            "st_gid": seen.gid,
            "st_rdev": 0,
            "st_size": seen.size,
            "st_blocks": seen.blocks,
            "st_atime": _nanoseconds(seen.atime),
            "st_mtime": _nanoseconds(seen.mtime),
            "st_ctime": _nanoseconds(seen.ctime),
        }

    @_or_eio
    def readdir(self, path: str, fh: Any) -> Iterable[str]:
        try:
            names = self._files.listdir(in_guest(path))
        except IncompleteDirectory as error:
            names = error.names
        if len(self._attributes) + len(names) > MAX_ATTRIBUTES:
            self._attributes.clear()
        for name, seen in self._files.attributes_in(in_guest(path), names).items():
            self._attributes[posixpath.join(path, name)] = seen
        above = (found.place for found in self._unmounted if posixpath.dirname(found.place) == path)
        return dict.fromkeys([".", "..", *names, *map(posixpath.basename, above)])

    @_or_eio
    def readlink(self, path: str) -> str:
        target = self._files.readlink(in_guest(path))
        if not target.startswith("/"):
            return target
        return posixpath.relpath(target, posixpath.dirname(path))

    @_or_eio
    def open(self, path: str, fi: Any) -> int:
        if fi.flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if not stat.S_ISREG(self._attributes_of(path).mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        fi.direct_io = _of_the_kernel(path)  # those have no size
        fi.keep_cache = not fi.direct_io
        return 0

    @_or_eio
    def read(self, path: str, size: int, offset: int, fi: Any) -> bytes:
        if _of_the_kernel(path):
            return self._block(path, -1)[offset : offset + size]
        end = min(offset + size, self._attributes_of(path).size)
        parts = []
        while offset < end:
            start = offset - offset % BLOCK_SIZE
            part = self._block(path, start)[offset - start : end - start]
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    @_or_eio
    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        try:
            return self._xattrs(path)[name]
        except KeyError:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA)) from None

    @_or_eio
    def listxattr(self, path: str) -> Iterable[str]:
        return list(self._xattrs(path))

    def _xattrs(self, path: str) -> dict[str, bytes]:
        """A place where something is shown that the guest had not mounted there says so."""
        for found in self._unmounted:
            if found.place == path:
                return {NOT_MOUNTED: f"{found.kind}, not mounted here by the guest".encode()}
        return self._files.xattrs(in_guest(path))

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_frsize": 4096, "f_namemax": 255}

    def _attributes_of(self, path: str) -> FileAttributes:
        known = self._attributes.get(path)
        if known is None:
            if len(self._attributes) >= MAX_ATTRIBUTES:
                self._attributes.clear()
            known = self._attributes[path] = self._files.attributes(in_guest(path))
        return known

    def _block(self, path: str, start: int) -> bytes:
        """A block of a file, or all of one of /proc or /sys; what cannot be read is EIO each time."""
        key = path, start
        if key not in self._blocks:
            while len(self._blocks) >= MAX_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            try:
                self._blocks[key] = (
                    self._files.read(in_guest(path))
                    if start < 0
                    else self._files.read_range(in_guest(path), start, BLOCK_SIZE)
                )
            except OSError as error:
                self._blocks[key] = error
        block = self._blocks[key]
        if isinstance(block, OSError):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return block


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000) * 1000


def _of_the_kernel(path: str) -> bool:
    """Whether it has a file's content only when that is read: its size says nothing."""
    return (path + "/").startswith(("/proc/", "/sys/", *(f"{place}/" for place in PLACES)))


def mount(session: Session, folder: Path) -> None:
    """Serve the tree at `folder` until it is unmounted or the process is interrupted. OptionError if it
    cannot be mounted there, AttachError if the image's root directory cannot be reached: nothing could be
    looked up below it."""
    if not folder.is_dir():
        raise OptionError(f"{folder}: not a directory; make an empty one to mount at")
    try:
        session.files.attributes(in_guest("/"))
    except (OSError, CallRolledBack) as error:
        reason = error.reason if isinstance(error, CallRolledBack) else error.strerror
        image = session.bridge.image.path
        raise AttachError(f"{image}: its root directory cannot be reached: {reason}") from None
    try:
        mfusepy.FUSE(
            SnapshotTree(session), str(folder), raw_fi=True, foreground=True, nothreads=True, **OPTIONS
        )
    except RuntimeError as error:
        raise OptionError(f"{folder}: cannot be mounted (FUSE: {error}); is fuse3 installed?") from None
