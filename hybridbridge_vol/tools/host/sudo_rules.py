"""sudoers(5): who may do what, with the files that are included.

Sources: sudo 1.9's sudoers.man ("SUDOERS FILE FORMAT", "Including other files from within sudoers").
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.host.text_file import Line, TextFile, list_folder, read_text

MAX_DEPTH = 128
"""MAX_SUDOERS_DEPTH (plugins/sudoers/gram.y): files that include each other."""
MAX_FILES = 1024
"""Files that are read in all."""
MAX_STATEMENT = 1 << 16
"""Characters of one statement, with its continuation lines."""
_INCLUDE = re.compile(r"[@#](include|includedir)\s+(.+)")
_ALIAS = re.compile(r"(User|Runas|Host|Cmnd|Cmd)_Alias\s+(.+)", re.DOTALL)
_FIRST_WORDS = re.compile(
    r"(?P<who>(?:\"[^\"]*\"|\\.|[^\s,\\\"])+(?:\s*,\s*(?:\"[^\"]*\"|\\.|[^\s,\\\"])+)*)\s+(?P<rest>[^=]+=.*)",
    re.DOTALL,
)


class Rule(NamedTuple):
    """A statement of sudoers. `kind`: sudo, sudo alias, sudo default."""

    kind: str
    who: str
    what: str
    path: str
    line: Line


class SudoRules:
    """Reads sudoers and what it includes. `files_read`: each file that there is, by its path; `lacks`: what
    could not be read, or is no statement."""

    def __init__(self, files: Files, host: str) -> None:
        self._files = files
        self._host = host.partition(".")[0]
        self.files_read: dict[str, TextFile] = {}
        self.lacks: list[tuple[str, Line | None, Unavailable]] = []
        self._folders = set[str]()

    def read(self, path: str = "/etc/sudoers") -> Iterator[Rule]:
        """Every statement, in the order in which sudo reads them. Where memory lacks some of the first file,
        the folder that it usually includes is read all the same."""
        yield from self._file(path, ())
        usual = f"{path}.d"
        found = self.files_read.get(path)
        if found is not None and found.lack is not None and usual not in self._folders:
            yield from self._folder(usual, (path,))

    def _file(self, path: str, above: tuple[str, ...]) -> Iterator[Rule]:
        if len(above) >= MAX_DEPTH or path in above or len(self.files_read) >= MAX_FILES:
            self.lacks.append(
                (path, None, Unavailable(f"{path}: included in a circle, or by too many files"))
            )
            return
        found = read_text(self._files, path)
        if found is None:
            if above:
                self.lacks.append((path, None, Unavailable(f"{path}: included, but there is no such file")))
            return
        self.files_read[path] = found
        if found.lack is not None:
            self.lacks.append((path, None, found.lack))
        for number, statement in statements(found.lines):
            include = _INCLUDE.fullmatch(statement)
            if include is None:
                yield from self._statement(path, number, statement)
                continue
            target = self._target(path, include[2])
            if include[1] == "include":
                yield from self._file(target, (*above, path))
            else:
                yield from self._folder(target, (*above, path))

    def _target(self, path: str, name: str) -> str:
        name = name.strip().strip('"').replace("%h", self._host)
        name = re.sub(r"\\(.)", r"\1", name)
        return posixpath.join(posixpath.dirname(path), name)

    def _folder(self, path: str, above: tuple[str, ...]) -> Iterator[Rule]:
        self._folders.add(path)
        folder = list_folder(self._files, path)
        if folder is None:
            return
        if folder.lack is not None:
            self.lacks.append((path, None, folder.lack))
        for name in folder.names:
            if not name.endswith("~") and "." not in name:
                yield from self._file(f"{path.rstrip('/')}/{name}", above)

    def _statement(self, path: str, number: Line, statement: str) -> Iterator[Rule]:
        if statement.startswith("Defaults"):
            yield Rule(
                "sudo default", statement.partition(" ")[0], statement.partition(" ")[2].strip(), path, number
            )
            return
        alias = _ALIAS.fullmatch(statement)
        if alias is not None:
            for part in re.split(r"\s+:\s+", alias[2]):
                name, _equals, value = part.partition("=")
                yield Rule("sudo alias", name.strip(), f"{alias[1]}: {_joined(value)}", path, number)
            return
        rule = _FIRST_WORDS.fullmatch(statement) if "=" in statement else None
        if rule is None:
            self.lacks.append(
                (path, number, Unavailable(f"{path}: not a statement of sudoers: {statement[:60]}"))
            )
            return
        yield Rule("sudo", _joined(rule["who"]), _joined(rule["rest"]), path, number)


def _joined(text: str) -> str:
    """The text with each run of blanks and tabs as one blank."""
    return re.sub(r"[ \t]+", " ", text).strip()


def statements(lines: tuple[Line, ...]) -> Iterator[tuple[Line, str]]:
    """Statements, each with its first line, which then ends where the statement does: continuation lines are
    joined, comments left out."""
    waiting: str = ""
    first: Line | None = None
    for line in lines:
        text = line.text.rstrip("\r")
        first = line if first is None else first._replace(end=line.end)
        if text.endswith("\\") and len(waiting) < MAX_STATEMENT:
            waiting += text[:-1] + " "
            continue
        statement = _without_comment(waiting + text).strip()
        if statement:
            yield first, statement
        waiting, first = "", None
    if first is not None and waiting.strip():
        yield first, _without_comment(waiting).strip()


def _without_comment(text: str) -> str:
    """The text up to a `#` that begins a comment: not one of `#include`, nor of a numeric id."""
    if _INCLUDE.fullmatch(text.strip()):
        return text
    quoted = False
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == "#" and not quoted and text[at - 1 : at] != "\\":
            is_id = text[at + 1 : at + 2].isdigit() and text[:at].rstrip()[-1:] in (
                "",
                ",",
                "%",
                "(",
                ":",
                "!",
                "=",
            )
            if not is_id:
                return text[:at]
    return text
