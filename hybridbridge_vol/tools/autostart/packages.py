"""Which files packages have brought: the lists of package managers, as far as memory holds them."""

from __future__ import annotations

import re

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.autostart.package_lists import DPKG, package_lists

MAX_PATHS = 2_000_000
"""Paths of all lists together."""
_MERGED = re.compile(r"/usr(?=/(?:bin|sbin|lib|lib32|lib64|libx32)/)")


class Package:
    """A package's name, and when it was installed, in seconds."""

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
        for found in package_lists(files):
            if isinstance(found, Unavailable):
                self.lack = self.lack or found
                continue
            package = Package(found.name, found.installed)
            self.newest = max(self.newest or 0.0, package.installed)
            for path in found.paths:
                self._take(path, package)
        if self.newest is None and self.lack is None:
            self.lack = Unavailable("no package manager's lists: what a package has brought is not known")

    def _take(self, path: str, package: Package) -> None:
        if len(self._of) < MAX_PATHS:
            self._of.setdefault(_MERGED.sub("", path), package)
        else:
            self.lack = self.lack or Unavailable(f"more than {MAX_PATHS:,} files of packages")

    @property
    def lacking_path(self) -> str:
        """Which list `lack` is about; the usual one if it is about none."""
        path = self.lack.reason.partition(":")[0] if self.lack else ""
        return path if path.startswith("/") else DPKG

    @property
    def are_known(self) -> bool:
        """Whether every file of every package is known."""
        return self.lack is None and bool(self._of)

    def of(self, path: str) -> Package | None:
        """The package that has brought a file, if that is known."""
        return self._of.get(_MERGED.sub("", path))
