"""Landlock: what the program may reach of the examiner's machine, kept by the host's kernel whatever the
supervisor overlooks (landlock(7), include/uapi/linux/landlock.h)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterable

from hybridbridge_vol.native.libc import syscall

_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
EXECUTE, READ_FILE, READ_FOLDER = 1 << 0, 1 << 2, 1 << 3
CHANGE_FILES = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13 | 1 << 14
"""LANDLOCK_ACCESS_FS_WRITE_FILE, REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, REFER, TRUNCATE."""
_OF_A_FILE = EXECUTE | 1 << 1 | READ_FILE | 1 << 14 | 1 << 15
"""Rights that a rule for a single file may have: also LANDLOCK_ACCESS_FS_IOCTL_DEV."""
_NET_ALL, _SCOPE_ALL = 3, 3  # bind and connect TCP; abstract unix sockets and signals


def version() -> int:
    """The version of the host's Landlock; 0 if it has none or it is off."""
    try:
        return syscall("landlock_create_ruleset", _CREATE, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def _rights(abi: int) -> int:
    """All rights on files that this version knows: what is not allowed below is refused."""
    return (1 << (13 + (abi >= 2) + (abi >= 3) + (abi >= 5))) - 1


def restrict_self(executable: Iterable[str]) -> None:
    """Give up, for this process and all that it starts, every access to files by name, but for reading and
    executing these files and what is below these folders; TCP; and signals and abstract unix sockets to
    others, where the host's Landlock can. OSError."""
    restrict([(path, EXECUTE | READ_FILE) for path in executable])


def restrict(rules: Iterable[tuple[str, int]]) -> None:
    """The same with other rules: each a file or folder, and the rights that stay there and below. OSError."""
    abi = version()
    if not abi:
        raise OSError(errno.EOPNOTSUPP, "Landlock")
    handled = _rights(abi)
    fields = (handled, _NET_ALL, _SCOPE_ALL)[: 1 + (abi >= 4) + (abi >= 6)]
    attributes = struct.pack(f"<{len(fields)}Q", *fields)
    ruleset = syscall("landlock_create_ruleset", _CREATE, attributes, len(attributes), 0)
    for path, rights in rules:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _allow(ruleset, path, rights & handled)
    syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        if rights:
            rule = struct.pack("<Qi", rights, fd)
            syscall("landlock_add_rule", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)
