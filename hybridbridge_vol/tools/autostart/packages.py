"""Which files packages have brought: dpkg's lists, as far as memory holds them."""

from __future__ import annotations

import re

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.host.text_file import list_folder, read_text

INFO = "/var/lib/dpkg/info"
MAX_LISTS = 8192
"""Lists of files that are read: packages of one machine."""
MAX_PATHS = 2_000_000
"""Paths of all lists together."""
_MERGED = re.compile(r"/usr(?=/(?:bin|sbin|lib|lib32|lib64|libx32)/)")


class Package:
    """A package's name, and when its list of files was written: at its installation, in seconds."""

    __slots__ = ("installed", "name")

    def __init__(self, name: str, installed: float) -> None:
        self.name = name
        self.installed = installed


class Packages:
    """Reads all lists when it is made. `lack` says why they are not all, `newest` is when the last package
    was installed, in seconds; None if no list is there."""

    def __init__(self, files: Files) -> None:
        self._of: dict[str, Package] = {}
        self.lack: Unavailable | None = None
        self.newest: float | None = None
        self._count = self._missing = 0
        folder = list_folder(files, INFO)
        if folder is None:
            self.lack = Unavailable(
                f"{INFO}: there is no such folder: what a package has brought is not known"
            )
            return
        self.lack = folder.lack
        for path in folder.paths():
            if path.endswith(".list") and self._count < MAX_LISTS:
                self._read(files, path)
        if self._missing:
            text = f"{INFO}: {self._missing:,} of {self._count:,} lists of files are not in memory as a whole"
            self.lack = Unavailable(text)

    def _read(self, files: Files, path: str) -> None:
        self._count += 1
        found = read_text(files, path)
        if found is None or found.lack is not None:
            self._missing += 1
        if found is None or found.attributes is None:
            return
        name = path.rpartition("/")[2].removesuffix(".list").partition(":")[0]
        package = Package(name, found.attributes.mtime)
        self.newest = max(self.newest or 0.0, package.installed)
        for line in found.lines:
            if len(self._of) >= MAX_PATHS:
                return
            self._of.setdefault(_MERGED.sub("", line.text), package)

    @property
    def are_known(self) -> bool:
        """Whether every file of every package is known."""
        return self.lack is None and bool(self._of)

    def of(self, path: str) -> Package | None:
        """The package that has brought a file, if that is known."""
        return self._of.get(_MERGED.sub("", path))
