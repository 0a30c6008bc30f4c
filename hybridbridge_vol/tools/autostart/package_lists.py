"""The lists of files that package managers keep: dpkg, apk, pacman and rpm, as far as memory holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.autostart.rpm_header import parse_rpm_header
from hybridbridge_vol.tools.host.text_file import TextFile, is_absent, list_folder, read_runs, read_text

DPKG = "/var/lib/dpkg/info"
PACMAN = "/var/lib/pacman/local"
APK = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
RPM = ("/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite")
OTHER_RPM = {
    f"{folder}/{name}": kind
    for folder in ("/var/lib/rpm", "/usr/lib/sysimage/rpm")
    for name, kind in (("Packages", "Berkeley DB"), ("Packages.db", "ndb"))
}
"""Forms of rpm's database that are not read."""
MAX_SIZE = 1 << 28
"""Bytes of a database of packages."""
MAX_LISTS = 8192
"""Lists of files that are read: packages of one machine."""


class PackageFiles(NamedTuple):
    """A package, when it was installed, in seconds, or at the latest, and the paths that it has brought."""

    name: str
    installed: float
    paths: list[str]


def package_lists(files: Files) -> Iterator[PackageFiles | Unavailable]:
    """All lists of all package managers, and why some of them are missing. Nothing if there is none."""
    yield from _dpkg(files)
    yield from _pacman(files)
    for path in APK:
        yield from _apk(files, path)
    for path in RPM:
        yield from _rpm(files, path)
    for path, kind in OTHER_RPM.items():
        if _size(files, path):
            yield Unavailable(f"{path}: a database of {kind}, which is not read here")


def _dpkg(files: Files) -> Iterator[PackageFiles | Unavailable]:
    """One file for each package, written at its installation."""

    def package(path: str, list_: TextFile, installed: float) -> PackageFiles:
        name = path.rpartition("/")[2].removesuffix(".list").partition(":")[0]
        return PackageFiles(name, installed, [line.text for line in list_.lines])

    return _one_list_each(files, DPKG, lambda path: path if path.endswith(".list") else None, package)


def _pacman(files: Files) -> Iterator[PackageFiles | Unavailable]:
    """A folder NAME-VERSION-RELEASE for each package, with a file `files`, written at its installation."""

    def package(path: str, list_: TextFile, installed: float) -> PackageFiles:
        name = path.removesuffix("/files").rpartition("/")[2].rsplit("-", 2)[0]
        paths = _section([line.text for line in list_.lines], "%FILES%")
        return PackageFiles(name, installed, [f"/{item.rstrip('/')}" for item in paths])

    def list_of(path: str) -> str | None:
        return None if path.endswith("/ALPM_DB_VERSION") else f"{path}/files"

    return _one_list_each(files, PACMAN, list_of, package)


def _one_list_each(
    files: Files,
    where: str,
    list_of: Callable[[str], str | None],
    package: Callable[[str, TextFile, float], PackageFiles],
) -> Iterator[PackageFiles | Unavailable]:
    """The packages of a manager that has a list for each of them, which belongs to an entry of the folder
    `where`, or is it: `package` is given its path, the list, and when it was written."""
    folder = list_folder(files, where)
    if folder is None:
        return
    if folder.lack is not None:
        yield folder.lack
    missing = count = 0
    for path in [path for path in map(list_of, folder.paths()) if path is not None][:MAX_LISTS]:
        found = read_text(files, path)
        count += 1
        missing += found is None or found.lack is not None
        if found is not None and found.attributes is not None:
            yield package(path, found, found.attributes.mtime)
    if missing:
        yield Unavailable(f"{where}: {missing:,} of {count:,} lists of files are not in memory as a whole")


def _section(lines: list[str], head: str) -> Iterator[str]:
    inside = False
    for line in lines:
        if line.startswith("%"):
            inside = line == head
        elif inside and line:
            yield line


def _apk(files: Files, path: str) -> Iterator[PackageFiles | Unavailable]:
    """One file for all packages: paragraphs of lines, in which P: is the name, F: a folder and R: a file in
    it. It is written anew with each installation, and does not say when a package was installed."""
    found = _content(files, path)
    if found is None or isinstance(found, Unavailable):
        yield from () if found is None else (found,)
        return
    size, mtime, runs, missing = found
    for offset, data in runs:
        paragraphs = data.split(b"\n\n")
        if offset:  # a paragraph of which the beginning is missing, or the end
            paragraphs.pop(0)
        if paragraphs and offset + len(data) < size:
            paragraphs.pop()
        yield from (package for part in paragraphs if (package := _apk_package(part, mtime)))
    if missing:
        yield Unavailable(f"{path}: {missing:,} of its {size:,} bytes are not in memory")


def _apk_package(paragraph: bytes, installed: float) -> PackageFiles | None:
    name, folder, paths = "", "", []
    for line in paragraph.split(b"\n"):
        key, value = line[:2], text(line[2:])
        if key == b"P:":
            name = value
        elif key == b"F:":
            folder = f"/{value}".rstrip("/")
            paths.append(folder)
        elif key == b"R:":
            paths.append(f"{folder}/{value}")
    return PackageFiles(name, installed, paths) if name else None


def _rpm(files: Files, path: str) -> Iterator[PackageFiles | Unavailable]:
    """A database of SQLite, which has to be in memory as a whole; a header for each package in it."""
    found = _content(files, path)
    if found is None or isinstance(found, Unavailable):
        yield from () if found is None else (found,)
        return
    size, _mtime, runs, missing = found
    if missing or size > MAX_SIZE or not runs:
        lack = f"{missing:,} of its {size:,} bytes are not in memory" if missing else f"{size:,} bytes"
        yield Unavailable(f"{path}: a database, not read: {lack}")
        return
    import sqlite3  # few guests have one

    from hybridbridge_vol.tools.host.sqlite_question import asked

    damaged = 0
    try:
        for (blob,) in asked(runs[0][1], "SELECT blob FROM Packages"):
            package = parse_rpm_header(blob) if isinstance(blob, bytes) else None
            if package is None:
                damaged += 1
            else:
                yield PackageFiles(package.name, package.installed, package.paths)
    except sqlite3.Error as error:
        yield Unavailable(f"{path}: not a database of packages: {error}")
    if damaged:
        yield Unavailable(f"{path}: {damaged:,} packages are damaged")
    if _size(files, f"{path}-wal"):
        yield Unavailable(f"{path}: what is only in its log ({path}-wal) is not read")


_Content = tuple[int, float, list[tuple[int, bytes]], int]
"""Size, time of its last change, what is there by its offsets, and how many bytes are missing."""


def _content(files: Files, path: str) -> _Content | Unavailable | None:
    """A file; None if there is none."""
    try:
        seen = files.attributes(path, follow=True)
        runs, missing = read_runs(files, path, seen.size, MAX_SIZE)
    except UNREADABLE as error:
        return None if is_absent(error) else why(path, error)
    return seen.size, seen.mtime, [(run.offset, run.data) for run in runs], missing


def _size(files: Files, path: str) -> int:
    """Bytes of a file; 0 if there is none, or nothing is known of it."""
    try:
        return files.attributes(path, follow=True).size
    except UNREADABLE:
        return 0
