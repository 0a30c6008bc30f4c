"""The format of /proc/PID/mountinfo.

Sources: Documentation/filesystems/proc.rst (3.5), fs/proc_namespace.c (`show_mountinfo`; Linux 5.10 to 6.12):
blanks, tabs, newlines and backslashes in names are written as a backslash and three octal digits (`mangle`,
`seq_path_root`, `seq_show_option`): no name ends a field or a line.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.pid import text


class Mount(NamedTuple):
    """One line of /proc/PID/mountinfo."""

    id: int
    parent: int
    device: str
    """major:minor of its files."""
    root: str
    """The directory of the file system that is mounted: not `/` for bind mounts."""
    target: str
    """Where it is mounted, as the process sees it."""
    options: str
    """Options of this mount."""
    propagation: str
    """`shared:N`, `master:N`, `propagate_from:N`, `unbindable`; empty for a private mount."""
    kind: str
    """The file system's type."""
    source: str
    """Device or name, as it was given to mount(2)."""
    super_options: str
    """Options of the file system."""


def parse_mount(line: bytes) -> Mount:
    """`id parent major:minor root target options [propagation ...] - type source [options]`. Raises
    ParseError."""
    fields = line.split(b" ")
    try:
        hyphen = fields.index(b"-", 6)
        kind, source, *rest = fields[hyphen + 1 :]
        device = fields[2].decode("ascii")
        if not re.fullmatch(r"\d+:\d+", device):
            raise ValueError
        propagation = text(b" ".join(fields[6:hyphen]))
        return Mount(
            int(fields[0]), int(fields[1]), device, unescape(fields[3]), unescape(fields[4]),
            unescape(fields[5]), propagation, unescape(kind), unescape(source), unescape(b" ".join(rest)),
        )  # fmt: skip
    except ValueError:
        raise ParseError(f"not in the form of /proc/PID/mountinfo: {line[:60]!r}") from None


def unescape(field: bytes) -> str:
    """A name, with `\\040` and the like decoded."""
    return text(re.sub(rb"\\([0-3][0-7]{2})", lambda match: bytes([int(match[1], 8)]), field))
