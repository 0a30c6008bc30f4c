"""What is unusual about something that starts by itself: each mark is a fact, in a few words."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator

from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.tools.autostart.packages import Package, Packages
from hybridbridge_vol.tools.autostart.places import Places, Start
from hybridbridge_vol.tools.host.text_file import is_absent

UNTOUCHED = "as the kernel begins"
"""State of a setting that nobody made: it names a program whether there is one or not."""
FROM_SKELETON = "as in /etc/skel"
"""State of a line that a user's file had when the account was made; distributions read hidden files there."""
SLACK = 120.0
"""Seconds by which a file may be newer than the list of its package: both are written by one installation."""
MAX_PROGRAMS = 1 << 14
"""Programs whose attributes are asked for."""
_TEMPORARY = re.compile(r"(?:^|[\s\"'=:(`|&;])(?:/tmp/|/var/tmp/|/dev/shm/|/run/shm/)")
_HIDDEN = re.compile(
    r"/\.(?![./\s]|(?:config|local)(?![\w.-])|bash|profile|zsh|ssh/|cache/?(?:\s|$))[^\s/\"'}]+"
)
_CONNECTS = re.compile(
    r"\b(?:curl|wget|nc|ncat|netcat|socat|telnet)\s|/dev/(?:tcp|udp)/|base64\s+(?:-d|--decode)"
)
_PRELOADS = re.compile(r"\bLD_(?:PRELOAD|AUDIT|LIBRARY_PATH)\b")
_PASS_OVER_HIDDEN = ("cron", "anacron", "at")
"""Kinds whose programs run no file with a dot in front (Debian has .placeholder there, and at its .SEQ)."""
_OF_THE_SYSTEM = ("/usr/lib/", "/lib/", "/usr/share/", "/usr/local/lib/", "/etc/init.d/")
_KEPT = ("/etc/", "/usr/", "/lib/", "/var/")
_NOT_OF_A_HOME = ("/etc/", "/usr/", "/run/", "/lib/", "/var/")
_PROGRAM = re.compile(
    r"(?:[A-Za-z_]\w*=[^\s$`(]*\s+)*(?:(?:exec|nohup|nice|setsid|sudo|env)\s+)*[\"']?(/[^\s\"';|&()]+)"
)


class Marker:
    """Marks rows. What is asked about a program is asked once."""

    def __init__(self, places: Places, packages: Packages) -> None:
        self._places = places
        self._packages = packages
        self._programs: dict[str, tuple[FileAttributes | None, bool]] = {}

    def package(self, start: Start) -> Package | None:
        """The package that has brought the file."""
        return self._packages.of(start.path)

    def marks(self, start: Start) -> list[str]:
        """Those of the row itself, and what its file, its command and its program show."""
        found = [*start.marks, *self._of_file(start), *of_text(start), *self._of_program(start)]
        return list(dict.fromkeys(found))

    def _of_file(self, start: Start) -> Iterator[str]:
        seen = start.attributes
        if seen is None:
            return  # nobody knows whether there is such a file
        if not stat.S_ISLNK(seen.mode):
            yield from _of_owner(seen, start.user == "root")
            yield from self._of_package(start, seen)
        is_taken = not str(start.state).startswith("ignored") and start.kind not in _PASS_OVER_HIDDEN
        if is_taken and re.search(r"/\.[^/]+$", start.path) and start.path.startswith(_NOT_OF_A_HOME):
            yield "hidden file"

    def _of_package(self, start: Start, seen: FileAttributes) -> Iterator[str]:
        package = self._packages.of(start.path)
        if package is not None and seen.mtime > package.installed + SLACK:
            yield "changed after its package was installed"
        if package is None and self._packages.are_known and start.path.startswith(_OF_THE_SYSTEM):
            yield "of no package"
        newest = self._packages.newest
        is_newer = newest is not None and seen.mtime > newest + SLACK
        if package is None and is_newer and start.path.startswith(_KEPT):
            yield "newer than all packages"

    def _of_program(self, start: Start) -> Iterator[str]:
        program = start.program or self._named(start)
        if not program or str(start.state).startswith(("masked", "overridden", "ignored")):
            return
        if program not in self._programs:
            if len(self._programs) >= MAX_PROGRAMS:
                return
            self._programs[program] = self._ask(program)
        seen, absent = self._programs[program]
        if absent and start.state != UNTOUCHED and not start.is_conditional:
            yield "program does not exist"
        if seen is None or not stat.S_ISREG(seen.mode):
            return
        if seen.mode & stat.S_IWOTH:
            yield "program is writable for everybody"
        if seen.uid and start.user == "root":
            yield "program is not root's"

    def _named(self, start: Start) -> str:
        """The program at the begin of a command of a shell, if it is an absolute path without variables."""
        if start.kind not in ("cron", "anacron", "at", "rc.local") or not isinstance(start.what, str):
            return ""
        match = _PROGRAM.match(start.what)
        return match[1] if match is not None and not set("$*?{~\\%") & set(match[1]) else ""

    def _ask(self, program: str) -> tuple[FileAttributes | None, bool]:
        try:
            return self._places.files.attributes(program, follow=True), False
        except UNREADABLE as error:
            return None, is_absent(error)
        except ValueError:
            return None, False


def of_text(start: Start) -> Iterator[str]:
    """The marks of what a row runs, as text."""
    text = start.what if isinstance(start.what, str) else ""
    if not text.replace("\t", " ").isprintable() or not start.path.isprintable():
        yield "control characters"
    if _TEMPORARY.search(text):
        yield "in a folder for temporary files"
    if _HIDDEN.search(text) and text != start.path and start.state != FROM_SKELETON:
        yield "hidden name"
    if _CONNECTS.search(text):
        yield "fetches, connects or decodes"
    if _PRELOADS.search(text):
        yield "sets what libraries are loaded"


def _of_owner(seen: FileAttributes, runs_as_root: bool) -> Iterator[str]:
    if seen.mode & stat.S_IWOTH and not seen.mode & stat.S_ISVTX:
        yield "file is writable for everybody"
    elif seen.mode & stat.S_IWGRP and seen.gid:
        yield "file is writable for a group"
    if seen.uid and runs_as_root:
        yield "file is not root's"
