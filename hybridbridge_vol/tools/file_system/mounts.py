"""Which mount a file of the guest's is in."""

from __future__ import annotations

import os
from collections.abc import Iterable

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.procfs.mounts import Mount, parse_mount
from hybridbridge_vol.procfs.sources import split_lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import read_lines
from hybridbridge_vol.tools.file_system.walk import Entry


class Mounts:
    """The mounts of a process, in the order of its mountinfo."""

    def __init__(self, mounts: Iterable[Mount], lack: Unavailable | None = None) -> None:
        self.lack = lack
        """Why these are not all."""
        self._by_target: dict[str, Mount] = {}
        self._by_device: dict[int, Mount] = {}
        for mount in mounts:
            self._by_target[mount.target] = mount  # the last one mounted covers those before
            self._by_device.setdefault(os.makedev(*map(int, mount.device.split(":"))), mount)

    @classmethod
    def of(cls, files: Files) -> Mounts:
        """Those below the root at which paths begin."""
        data, lack = read_lines(files, f"{files.process}/mountinfo")
        return cls(map(parse_mount, split_lines(data)), lack)

    def at(self, target: str) -> Mount | None:
        """What is mounted at a path; None if nothing is."""
        return self._by_target.get(target.rstrip("/") or "/")

    def holding(self, entry: Entry) -> Mount | None:
        """The mount of a file: by its path, since files of a btrfs have device numbers that no mount has; by
        its device where it has no path any more. None if it is in none of them."""
        if entry.shown_as or entry.kind:
            return self._by_device.get(entry.attributes.dev) if entry.attributes else None
        path = entry.path
        while path not in self._by_target:
            if path in ("", "/"):
                return None
            path = path.rpartition("/")[0] or "/"
        return self._by_target[path]
