"""What a login runs or lets in: PAM and its modules, authorized keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hybridbridge_vol.tools.autostart.packages import Packages
from hybridbridge_vol.tools.autostart.places import Places, Start, joined, meaningful, of_line, of_script
from hybridbridge_vol.tools.autostart.scripts import commands
from hybridbridge_vol.tools.host.authorized_keys import (
    SSHD_CONFIG,
    key_files,
    parse_authorized_keys,
    path_for,
)
from hybridbridge_vol.tools.host.text_file import TextFile

_LINE = re.compile(r"(-?\w+)\s+(\[[^]]*\]|[\w-]+)\s+(\S+)\s*(.*)")
_INCLUDE = re.compile(r"@include\s+\S+|\S+\s+(?:include|substack)\s+\S+")
_RUNNERS = ("pam_exec.so", "pam_script.so", "pam_python.so", "pam_extrausers.so")
"""Modules that run what their arguments say."""
_COMMAND = re.compile(r'command="((?:\\.|[^"\\])*)"')
_SSHD_RUNS = ("forcecommand", "authorizedkeyscommand", "authorizedprincipalscommand", "subsystem")
MODULE_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu/security", "/lib/x86_64-linux-gnu/security", "/usr/lib/security",
    "/lib/security", "/usr/lib64/security", "/lib64/security", "/usr/local/lib/security",
)  # fmt: skip


def starts(places: Places, packages: Packages) -> Iterator[Start]:
    """All of these."""
    modules = list(_modules(places, packages))
    unexplained = {start.path.rpartition("/")[2] for start in modules if start.marks}
    for file in (*places.texts("pam", ("/etc/pam.d",)), *_main(places)):
        service = file.path.rpartition("/")[2]
        for line in joined(file.lines):
            if _INCLUDE.fullmatch(line.text):
                continue
            match = _LINE.fullmatch(line.text)
            if match is None:
                yield of_line("pam", file, line, line.text, service, "root").marked("not a line of its file")
                continue
            name = match[3].rpartition("/")[2]
            start = of_line(
                "pam", file, line, f"{match[3]} {match[4]}".strip(), f"{service}: {match[1]}", "root"
            )
            yield start.marked(
                "runs a program" if name in _RUNNERS else "",
                "module of no package" if name in unexplained else "",
            )
    yield from modules
    yield from _sshd(places)
    yield from _keys(places)


def _main(places: Places) -> Iterator[TextFile]:
    file = places.text("pam", "/etc/pam.conf")
    if file is not None:
        yield file


def _modules(places: Places, packages: Packages) -> Iterator[Start]:
    """The modules of PAM that there are."""
    for folder in places.distinct(MODULE_FOLDERS):
        for script in places.scripts("pam module", folder):
            if script.name.endswith(".so"):
                start = of_script("pam module", script, "loaded by PAM", user="root")
                alien = packages.are_known and packages.of(script.path) is None
                yield start.marked("of no package" if alien else "")


def _sshd(places: Places) -> Iterator[Start]:
    """What sshd runs for each login (sshd_config(5), sshd(8))."""
    main = places.text("sshd", SSHD_CONFIG)
    parts = places.texts("sshd", (f"{SSHD_CONFIG}.d",), ".conf")
    for file in (*((main,) if main is not None else ()), *parts):
        for line in meaningful(file.lines):
            key, *command = re.split(r"[\s=]+", line.text, maxsplit=1)
            if key.lower() in _SSHD_RUNS and command and command[0] != "none":
                yield of_line("sshd", file, line, " ".join(command[0].split()), key, "each user")
    script = places.text("sshd", "/etc/ssh/sshrc")
    if script is not None:
        yield from commands(script, "sshd", "each login by ssh", "each user")


def _keys(places: Places) -> Iterator[Start]:
    patterns = key_files(places.files)
    met: set[str] = set()
    for home, account in places.homes:
        for pattern in patterns:
            path = path_for(pattern, account.name, account.uid, home)
            file = places.text("authorized_keys", path) if path not in met else None
            met.add(path)
            for key in parse_authorized_keys(file.lines) if file is not None else ():
                command = _COMMAND.search(key.options)
                what = (
                    command[1]
                    if command
                    else f"login by key {key.type} {key.fingerprint} {key.comment}".strip()
                )
                yield Start(
                    "authorized_keys", path, key.line.number, what, "login by this key", account.name, None,
                    file.attributes if file else None, file.lack if file else None,
                    span=(key.line.start, key.line.end),
                )  # fmt: skip
