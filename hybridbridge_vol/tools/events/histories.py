"""Histories of shells in their files, as far as these have times.

Sources: bash(1), HISTTIMEFORMAT (a line `#SECONDS` before each command); zshoptions(1), EXTENDED_HISTORY
(`: SECONDS:DURATION;COMMAND`); fish 3 (`- cmd: ...`, `  when: SECONDS`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.autostart.places import Places
from hybridbridge_vol.tools.host.text_file import Line, read_text

FILES = (
    ".bash_history", ".sh_history", ".ash_history", ".history", ".zsh_history", ".zhistory",
    ".local/share/fish/fish_history",
)  # fmt: skip
MAX_COMMAND = 4096
"""Characters of a command that are shown."""
_BASH = re.compile(r"#(\d{9,11})")
_ZSH = re.compile(r": (\d{9,11}):\d+;(.*)")
_FISH = re.compile(r"  when: (\d{9,11})")


class Command(NamedTuple):
    """A command that was typed, in seconds since the epoch. `lack` in its place: why a file could not be
    read."""

    seconds: int | None
    text: str
    user: str
    path: str
    line: int | None
    lack: Unavailable | None = None


def commands(files: Files) -> Iterator[Command]:
    """Those of all users that have a time."""
    for home, account in Places(files).homes:
        for name in FILES:
            path = f"{home.rstrip('/')}/{name}"
            found = read_text(files, path)
            if found is None:
                continue
            for seconds, line in parse_history(found.lines):
                yield Command(seconds, line.text[:MAX_COMMAND], account.name, path, line.number)
            if found.lack is not None:
                yield Command(None, "", account.name, path, None, found.lack)


def parse_history(lines: Iterable[Line]) -> Iterator[tuple[int, Line]]:
    """The commands with their times: of bash, zsh and fish, whichever a line is of."""
    waiting: int | None = None
    command: Line | None = None
    for line in lines:
        bash, zsh, fish = _BASH.fullmatch(line.text), _ZSH.fullmatch(line.text), _FISH.fullmatch(line.text)
        if bash is not None:
            waiting = int(bash[1])
        elif zsh is not None:
            yield int(zsh[1]), line._replace(text=zsh[2])
        elif line.text.startswith("- cmd: "):
            command = line._replace(text=line.text[len("- cmd: ") :])
        elif fish is not None and command is not None:
            yield int(fish[1]), command
            command = None
        elif waiting is not None:
            yield waiting, line
            waiting = None
