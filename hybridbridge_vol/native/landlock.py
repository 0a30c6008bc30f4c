"""Landlock: what the program may reach of the examiner's machine, kept by the host's kernel whatever the
supervisor overlooks (landlock(7), include/uapi/linux/landlock.h)."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterable

from hybridbridge_vol.native.libc import syscall

_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _READ_FILE = 1, 4
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
    abi = version()
    if not abi:
        raise OSError(errno.EOPNOTSUPP, "Landlock")
    fields = (_rights(abi), _NET_ALL, _SCOPE_ALL)[: 1 + (abi >= 4) + (abi >= 6)]
    attributes = struct.pack(f"<{len(fields)}Q", *fields)
    ruleset = syscall("landlock_create_ruleset", _CREATE, attributes, len(attributes), 0)
    for path in executable:
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("<Qi", _EXECUTE | _READ_FILE, fd)
            syscall("landlock_add_rule", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
            os.close(fd)
    syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
