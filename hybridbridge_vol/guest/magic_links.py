"""Links of /proc/PID that lead to files of the guest's own file systems: what can be opened by them, and what
not.

They lead to what the process has open, past all names (`proc_pid_get_link`, fs/proc/base.c). Regular files
are read from the snapshot's page cache and directories from its dcache. Names below such a directory are not
looked up: that would be done in the trusted kernel's dcache, which does not know them.
"""

from __future__ import annotations

import errno
import re
import stat

from hybridbridge_vol.errors import kernel_error

_LINK = re.compile(
    r"/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/(?:exe|cwd|root|fd/[0-9]+|map_files/[0-9a-f]+-[0-9a-f]+)(/.*)?"
)
_NOT_YET = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ESRCH, errno.ENOSYS, errno.EAFNOSUPPORT)
_OTHERS = {
    stat.S_IFCHR: "a character device: what it would answer is not in memory",
    stat.S_IFBLK: "a block device: what it would answer is not in memory",
    stat.S_IFIFO: "a pipe: reading would take from it",
    stat.S_IFSOCK: "a socket: it has no content",
}


def is_link(path: str) -> bool:
    """Whether this is such a link, or something below it."""
    return _LINK.fullmatch(path) is not None


def check_name(path: str) -> None:
    """OSError if a path leads through such a link to a name below it."""
    found = _LINK.fullmatch(path)
    if found is not None and (found[1] or "").strip("/"):
        raise OSError(
            errno.EOPNOTSUPP,
            "names in the guest's own file systems are not looked up, only links of /proc",
            path,
        )


def check_mode(path: str, mode: int) -> None:
    """OSError if what is at the end of such a link (`st_mode`) cannot be read from memory."""
    reason = _OTHERS.get(stat.S_IFMT(mode))
    if reason is not None:
        raise OSError(errno.EOPNOTSUPP, reason, path)


def not_cached(path: str, number: int) -> OSError | None:
    """What an error of a read means for the file at the end of such a link: what is not in memory cannot be
    read in. None if it means what it says."""
    if number in (errno.EIO, errno.ENOMEM) and is_link(path):
        return OSError(errno.EIO, "a part of the file is not in the guest's page cache", path)
    return None


def error_of(path: str, number: int, booting: bool = False) -> OSError:
    """The error that an errno of the guest's kernel about a path is; `booting`: what the kernel does not have
    it may only not have had yet."""
    error = kernel_error(-number, path)
    number, text = error.errno or number, error.strerror or ""
    if booting and number in _NOT_YET:
        text += " (the machine was still booting)"
    return not_cached(path, number) or OSError(number, text, path)
