"""Mounts whose files are elsewhere: on a server, or with a process that answers for them (FUSE).

What the kernel has cached of them is answered where it asks nobody (`AT_STATX_DONT_SYNC`). A path that leads
through them is looked up by asking, and nobody answers: the call waits, or fails in some other way, and is
rolled back. The reason is then that, whatever it looks like.
"""

from __future__ import annotations

import contextlib
from functools import cached_property

from hybridbridge_vol.errors import CallRolledBack, ParseError
from hybridbridge_vol.guest.kernel import KernelFiles
from hybridbridge_vol.guest.values import PartialFile
from hybridbridge_vol.procfs.mounts import Mount, parse_mount
from hybridbridge_vol.procfs.sources import split_lines

SERVED = ("nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "coda", "virtiofs", "fuse", "fuseblk")
"""Types of file systems, as mountinfo has them; what stands behind a dot is FUSE's own."""


class ServedMounts:
    """Those that a process sees, whose folder in /proc is `process`."""

    def __init__(self, files: KernelFiles, process: str) -> None:
        self._files = files
        self._process = process

    def explained(self, path: str, error: CallRolledBack) -> CallRolledBack:
        """The same error, with the reason that a server would have to be asked if the path leads to a mount
        of one."""
        mount = self._holding(path)
        if mount is None or mount.kind.partition(".")[0] not in SERVED:
            return error
        return CallRolledBack(
            error.call, f"in {mount.kind} at {mount.target}: who serves it would have to be asked"
        )

    def _holding(self, path: str) -> Mount | None:
        path = f"/{path.strip('/')}"
        while path not in self._by_target and path != "/":
            path = path.rpartition("/")[0] or "/"
        return self._by_target.get(path)

    @cached_property
    def _by_target(self) -> dict[str, Mount]:
        """The last one that was mounted at each place; none if they cannot be read."""
        try:
            data = self._files.read(f"{self._process}/mountinfo")
        except PartialFile as error:
            data = error.partial
        except (OSError, CallRolledBack):
            return {}
        found = {}
        for line in split_lines(data):
            with contextlib.suppress(ParseError):
                mount = parse_mount(line)
                found[mount.target] = mount
        return found
