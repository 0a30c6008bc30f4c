"""Commands that programs run because their configuration says so: ssh, logrotate, git, Python, polkit and
more. Each place is one line of a table: the files, and what a line with a command looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.tools.autostart.places import (
    MAX_STATEMENT,
    Places,
    Start,
    meaningful,
    of_line,
    of_script,
    owner_name,
)
from hybridbridge_vol.tools.autostart.system import package_hooks
from hybridbridge_vol.tools.host.text_file import TextFile


class _Place(NamedTuple):
    """Files by their paths, and those of folders that end in `suffix`; `~/` is each home. `line` has the
    command as its last group, and may have what starts it as the first of two."""

    kind: str
    when: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    suffix: str
    line: re.Pattern[str]


_PYTHON = _Place(
    "python", "when Python starts", (),
    ("/usr/lib/python3/dist-packages", "/usr/local/lib/python3*/dist-packages",
     "/usr/lib/python3*/site-packages", "/usr/lib64/python3*/site-packages",
     "~/.local/lib/python3*/site-packages"), ".pth",
    re.compile(r"(import[ \t].+)"),
)  # fmt: skip
_PLACES = (
    _Place(
        "ssh client", "when ssh connects", ("/etc/ssh/ssh_config", "~/.ssh/config"),
        ("/etc/ssh/ssh_config.d",), ".conf",
        re.compile(
            r"(ProxyCommand|LocalCommand|KnownHostsCommand|Match\s.*\bexec)\s*=?\s*(.+)", re.IGNORECASE
        ),
    ),
    _Place("environment", "each login by ssh", ("~/.ssh/environment",), (), "", re.compile(r"(\w+=.*)")),
    _Place(
        "environment", "each unit", ("/etc/systemd/system.conf", "/etc/systemd/user.conf"),
        ("/etc/systemd/system.conf.d", "/etc/systemd/user.conf.d"), ".conf",
        re.compile(r"((?:Default|Manager)Environment=.+)"),
    ),
    _Place(
        "git", "when git works", ("/etc/gitconfig", "~/.gitconfig", "~/.config/git/config"), (), "",
        re.compile(
            r"(fsmonitor|hooksPath|sshCommand|pager|editor|askPass|gitProxy|textconv|external|process|clean"
            r"|smudge|helper|[\w-]+(?=\s*=\s*!))\s*=\s*(.+)", re.IGNORECASE,
        ),
    ),
    _Place(
        "incron", "when a file changes", (), ("/etc/incron.d", "/var/spool/incron"), "",
        re.compile(r"(\S+\s+\S+)\s+(.+)"),
    ),
    _Place(
        "power", "by acpid", (), ("/etc/acpi/events",), "", re.compile(r"action\s*=\s*(.+)"),
    ),
    _Place(
        "network", "by ifupdown", ("/etc/network/interfaces",), ("/etc/network/interfaces.d",), "",
        re.compile(r"((?:pre-|post-)?(?:up|down))\s+(.+)"),
    ),
    _Place(
        "polkit", "when rights are asked for", (), ("/etc/polkit-1/rules.d", "/usr/share/polkit-1/rules.d"),
        ".rules", re.compile(r".*polkit\.spawn\((.+)"),
    ),
    _PYTHON,
)  # fmt: skip
_CUSTOMIZED = ("sitecustomize.py", "usercustomize.py")
"""Modules that Python's `site` imports if there are any."""
_ROTATION = re.compile(r"(?:pre|post)rotate|(?:first|last)action|preremove")
MAX_VERSIONS = 64
"""Folders of one pattern: one for each version of Python."""


def starts(places: Places) -> Iterator[Start]:
    """All of these."""
    for place in _PLACES:
        for file, home_user in _files(places, place):
            for line in meaningful(file.lines, "#;"):
                found = place.line.fullmatch(line.text[:MAX_STATEMENT])
                if found is not None:
                    when = f"{place.when}: {found[1]}" if place.line.groups > 1 else place.when
                    yield of_line(place.kind, file, line, found[place.line.groups], when, home_user)
    for folder, user in _folders(places, _PYTHON):
        for script in places.scripts(_PYTHON.kind, folder):
            if script.name in _CUSTOMIZED:
                yield of_script(_PYTHON.kind, script, _PYTHON.when, user)
    yield from _rotations(places)
    hooks = places.text("package manager", "/etc/apt/apt.conf")
    if hooks is not None:
        yield from package_hooks(hooks)


def _files(places: Places, place: _Place) -> Iterator[tuple[TextFile, Cell]]:
    for path in place.files:
        for full, user in _at_home(places, path):
            file = places.text(place.kind, full)
            if file is not None:
                yield file, user
    for folder, user in _folders(places, place):
        for file in places.texts(place.kind, (folder,), place.suffix):
            yield file, owner_name(file) if folder.startswith("/var/spool/") else user


def _folders(places: Places, place: _Place) -> Iterator[tuple[str, Cell]]:
    for pattern in place.folders:
        for path, user in _at_home(places, pattern):
            above, star, below = path.partition("*")
            if not star:
                yield path, user
                continue
            parent, _slash, begin = above.rpartition("/")
            names = [name for name in places.folder(place.kind, parent).names if name.startswith(begin)]
            for name in names[:MAX_VERSIONS]:
                yield f"{parent}/{name}{below}", user


def _at_home(places: Places, path: str) -> Iterator[tuple[str, Cell]]:
    """A path, or the same of each home with the home's user."""
    if not path.startswith("~/"):
        yield path, None
        return
    for home, account in places.homes:
        yield f"{home.rstrip('/')}{path[1:]}", account.name


def _rotations(places: Places) -> Iterator[Start]:
    """The scripts in the configuration of logrotate(8)."""
    main = places.text("logrotate", "/etc/logrotate.conf")
    files = [main] if main is not None else []
    for file in (*files, *places.texts("logrotate", ("/etc/logrotate.d",))):
        stage = ""
        for line in meaningful(file.lines):
            if _ROTATION.fullmatch(line.text):
                stage = line.text
            elif line.text == "endscript":
                stage = ""
            elif stage:
                yield of_line("logrotate", file, line, line.text, f"when logs are rotated: {stage}", "root")
