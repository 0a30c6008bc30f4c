"""What all families share: a row, and reading the guest's files so that nothing is missing in silence."""

from __future__ import annotations

import errno
import posixpath
import stat
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.host.account_files import Account, parse_passwd
from hybridbridge_vol.tools.host.text_file import Folder, Line, TextFile, is_absent, list_folder, read_text

MAX_HOMES = 1024
"""Homes that are looked through: each costs some dozens of calls."""
MAX_FILES = 1 << 13
"""Entries of one folder that are looked at: each costs some calls."""
MAX_TEXT = 2048
"""Characters of a command that are shown."""
MAX_STATEMENT = 1 << 14
"""Characters of a statement with its continuation lines; what is behind is left out."""
PASSWD = "/etc/passwd"


class Start(NamedTuple):
    """Something that runs, and where that is written. `when` is a schedule or an event, `user` whose rights
    it has, `state` whether it is in force; `lack` says why the file could not be read in full."""

    kind: str
    path: str
    line: int | None = None
    what: Cell = None
    when: Cell = None
    user: Cell = None
    state: Cell = None
    attributes: FileAttributes | None = None
    lack: Unavailable | None = None
    marks: tuple[str, ...] = ()
    span: tuple[int, int] | None = None
    """Where in the file it is written, in bytes; None: all of it."""
    program: str = ""
    """Absolute path of what runs, where it is known and is not the file itself."""
    is_conditional: bool = False
    """Whether it runs only if there is that program."""

    def marked(self, *marks: str) -> Start:
        """The same with more marks."""
        return self._replace(marks=(*self.marks, *filter(None, marks)))


class Script(NamedTuple):
    """A file in a folder whose files are run."""

    path: str
    name: str
    attributes: FileAttributes | None
    lack: Unavailable | None = None

    @property
    def is_executable(self) -> bool:
        return self.attributes is not None and bool(self.attributes.mode & 0o111)


class Places:
    """The guest's files for the families. What a folder lacks is kept in `lacks` until it is asked for."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._lacks: list[Start] = []

    def taken_lacks(self) -> list[Start]:
        """Rows for folders that could not be listed in full since this was last asked."""
        taken, self._lacks = self._lacks, []
        return taken

    def lacks(self, start: Start) -> None:
        """Report later that something is lacking."""
        self._lacks.append(start)

    def attributes(self, path: str, follow: bool = True) -> FileAttributes | None:
        """None if there is no such file, or they cannot be had."""
        try:
            return self.files.attributes(path, follow=follow)
        except UNREADABLE:
            return None

    def folder(self, kind: str, path: str) -> Folder:
        """The names in a directory; none if there is none."""
        found = list_folder(self.files, path)
        if found is None:
            return Folder(path, ())
        lack = found.lack
        if len(found.names) > MAX_FILES:
            lack = Unavailable(f"{path}: {len(found.names):,} names, of which {MAX_FILES:,} are looked at")
        if lack is not None:
            self._lacks.append(Start(kind, path, lack=lack, what=lack))
        return Folder(path, found.names[:MAX_FILES], lack)

    def text(self, kind: str, path: str, report: bool = True) -> TextFile | None:
        """A file by lines; None if there is none, or it is a directory. If nothing of it could be read, that
        is reported by a row of its own, unless the caller does it."""
        found = read_text(self.files, path)
        if found is None or _is_folder(found.attributes):
            return None
        if report and found.lack is not None and not found.lines:
            self._lacks.append(
                Start(kind, path, what=found.lack, lack=found.lack, attributes=found.attributes)
            )
        return found

    def texts(self, kind: str, folders: Iterable[str], suffix: str = "") -> Iterator[TextFile]:
        """The files in folders, by name, that end in `suffix`."""
        for folder in folders:
            for path in self.folder(kind, folder).paths():
                if path.endswith(suffix):
                    found = self.text(kind, path)
                    if found is not None:
                        yield found

    def distinct(self, folders: Iterable[str]) -> Iterator[str]:
        """Those of the folders that there are, each once: one may be a link to another."""
        met: set[tuple[int, int]] = set()
        for folder in folders:
            attributes = self.attributes(folder)
            if attributes is not None and (attributes.dev, attributes.ino) not in met:
                met.add((attributes.dev, attributes.ino))
                yield folder

    def scripts(self, kind: str, folder: str) -> Iterator[Script]:
        """The files of a folder whose files are run."""
        found = self.folder(kind, folder)
        known = self.files.attributes_in(folder, found.names) if found.names else {}
        for name, path in zip(found.names, found.paths(), strict=True):
            seen = known.get(name)
            if seen is None or stat.S_ISLNK(seen.mode):
                try:
                    seen = self.files.attributes(path, follow=True)
                except UNREADABLE as error:
                    if is_absent(error):
                        yield Script(path, name, None, Unavailable(f"{path}: leads to no file"))
                    else:
                        yield Script(path, name, None, why(path, error))
                    continue
            if not stat.S_ISDIR(seen.mode):
                yield Script(path, name, seen)

    def link(self, path: str) -> str | None:
        """The target of a symbolic link, absolute; None if it is none, or cannot be read."""
        try:
            target = self.files.readlink(path)
        except UNREADABLE:
            return None
        return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))

    def target(self, path: str) -> str:
        """As `link`, but the path itself if it is no link. What `files.readlink` raises where a link cannot
        be read."""
        try:
            target = self.files.readlink(path)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return path
            raise
        return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))

    @cached_property
    def homes(self) -> list[tuple[str, Account]]:
        """Home directories with the account whose they are: each once."""
        found = read_text(self.files, PASSWD)
        homes: dict[str, Account] = {}
        for account in parse_passwd(found.lines) if found is not None else ():
            if isinstance(account, Account) and account.home.startswith("/") and "\0" not in account.home:
                homes.setdefault(account.home.rstrip("/") or "/", account)
        lack = found.lack if found is not None else None
        if len(homes) > MAX_HOMES:
            lack = Unavailable(f"{PASSWD}: {len(homes):,} homes, of which {MAX_HOMES:,} are looked through")
        if lack is not None:
            self._lacks.append(Start("home", PASSWD, what=lack, lack=lack))
        there = [item for item in list(homes.items())[:MAX_HOMES] if self.attributes(item[0]) is not None]
        return sorted(there, key=lambda item: item[0] == "/")


def of_line(
    kind: str, file: TextFile, line: Line, what: str | None, when: Cell = None, user: Cell = None
) -> Start:
    """A row for a line of a file."""
    return Start(
        kind, file.path, line.number, what and what[:MAX_TEXT], when, user, None, file.attributes, file.lack,
        span=(line.start, line.end),
    )  # fmt: skip


def of_script(kind: str, script: Script, when: Cell = None, user: Cell = "root", state: Cell = None) -> Start:
    """A row for a file that is run as a whole."""
    return Start(
        kind, script.path, None, script.lack or script.path, when, user, state, script.attributes, script.lack
    )  # fmt: skip


def owner_name(file: TextFile) -> Cell:
    """The owner's uid as text, for whom a user's own file runs; None if it is not known."""
    return None if file.attributes is None else f"#{file.attributes.uid}"


def meaningful(lines: Iterable[Line], comments: str = "#") -> Iterator[Line]:
    """The lines that are not empty and no comments, without the blanks around them."""
    for line in lines:
        text = line.text.strip()
        if text and text[0] not in comments:
            yield line._replace(text=text)


def joined(lines: Iterable[Line], comments: str = "#") -> Iterator[Line]:
    """`meaningful` with continuation lines (a backslash at the end) joined by a blank; comments between them
    are left out, as systemd does."""
    waiting: Line | None = None
    for line in lines:
        text = line.text.strip()
        is_comment = text[:1] in comments and bool(text)
        if is_comment:
            continue
        goes_on = text.endswith("\\")
        text = text[:-1].rstrip() if goes_on else text
        if waiting is not None:
            end = line.end
            line, text = waiting._replace(end=end), f"{waiting.text} {text}".strip()
        joined_line = line._replace(text=text[:MAX_STATEMENT])
        waiting = joined_line if goes_on else None
        if not goes_on and joined_line.text:
            yield joined_line
    if waiting is not None and waiting.text:
        yield waiting


def _is_folder(attributes: FileAttributes | None) -> bool:
    return attributes is not None and stat.S_ISDIR(attributes.mode)
