"""systemd's units: where they lie, whether they are enabled, and what they run.

Sources: systemd.unit(5) ("UNIT FILE LOAD PATH"), systemd.syntax(7), systemctl(1) ("is-enabled"); systemd
247 to 257.
"""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.tools.autostart.places import Places, Start, joined, of_line, of_script
from hybridbridge_vol.tools.host.text_file import Line, TextFile

SYSTEM = (
    "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient",
    "/run/systemd/generator.early", "/etc/systemd/system", "/etc/systemd/system.attached",
    "/run/systemd/system", "/run/systemd/system.attached", "/run/systemd/generator",
    "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
    "/run/systemd/generator.late",
)  # fmt: skip
USER = (
    "/etc/systemd/user", "/run/systemd/user", "/usr/local/share/systemd/user", "/usr/share/systemd/user",
    "/usr/local/lib/systemd/user", "/usr/lib/systemd/user", "/lib/systemd/user",
)  # fmt: skip
OF_HOME = (".config/systemd/user.control", ".config/systemd/user", ".local/share/systemd/user")
GENERATORS = tuple(
    f"{top}/systemd/{name}"
    for name in (
        "system-generators", "user-generators", "system-environment-generators",
        "user-environment-generators", "system-shutdown", "system-sleep",
    )
    for top in ("/run", "/etc", "/usr/local/lib", "/usr/lib", "/lib")
)  # fmt: skip
_SUFFIXES = (
    ".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer",
    ".slice", ".scope",
)  # fmt: skip
_RUN_NOTHING = (".device", ".target", ".slice", ".scope")
"""Units that run nothing themselves."""
_MADE = (("generator", "generated"), ("transient", "transient"))
"""Folders below /run/systemd, and the state of what lies in them."""
_WANTING = (".wants", ".requires", ".upholds")
_EXEC = re.compile(r"(Exec\w+)\s*=\s*(.*)")
_TRIGGERS = re.compile(
    r"(On(?:Calendar|ActiveSec|BootSec|StartupSec|UnitActiveSec|UnitInactiveSec|ClockChange|TimezoneChange)"
    r"|PathExists|PathExistsGlob|PathChanged|PathModified|DirectoryNotEmpty|Listen\w+|What|Where)\s*=\s*(.*)"
)
_OTHERS = re.compile(r"(Unit|Service|User|Environment|EnvironmentFile|RootDirectory|RootImage)\s*=\s*(.*)")
_CONDITION = re.compile(r"(?:Condition|Assert)(?:PathExists|FileIsExecutable)\s*=\s*(/.*)")
"""What a unit needs to start at all."""
_NOT_IN_FORCE = ("static", "disabled", "masked", "indirect", "alias")
"""States of units whose programs need not exist."""
_PREFIXES = "-@:+!|"
"""Letters before a command that change how it is run (systemd.service(5), "COMMAND LINES")."""
MAX_LINKS = 1 << 14
"""Links in the folders of what units want that are followed."""


class Unit(NamedTuple):
    """A unit file, or a link in its place. `rank`: of its folder, the lowest is in force."""

    name: str
    path: str
    rank: int
    target: str | None
    """Where the link leads, if it is one."""

    @property
    def is_masked(self) -> bool:
        return self.target == "/dev/null"


class Units:
    """The units of one manager: of the system, or of users. `folders` by falling precedence."""

    def __init__(self, places: Places, kind: str, folders: Iterable[str], owner: Cell) -> None:
        self._places = places
        self._kind = kind
        self._owner = owner
        self.found: list[Unit] = []
        self._drop_ins: dict[str, list[str]] = {}
        self._wanted: dict[str, list[tuple[str, str]]] = {}
        """By the unit's name: who wants it, and the link."""
        for rank, folder in enumerate(places.distinct(folders)):  # /lib is often a link to /usr/lib
            self._search(folder, rank)
        self._known = {_merged(unit.path) for unit in self.found}
        self._links: dict[str, list[Unit]] = {}
        for unit in self.found:
            if unit.target is not None:
                self._links.setdefault(unit.target, []).append(unit)
        self._of_templates: dict[str, list[tuple[str, str]]] = {}
        for name, wanted in self._wanted.items():
            stem, at, rest = name.partition("@")
            if at:
                template = f"{stem}@.{rest.rpartition('.')[2]}"
                self._of_templates.setdefault(template, []).extend(wanted)

    def _search(self, folder: str, rank: int) -> None:
        names = self._places.folder(self._kind, folder).names
        known = self._places.files.attributes_in(folder, names) if names else {}
        for name in names:
            path = f"{folder}/{name}"
            if name.endswith(_SUFFIXES):
                seen = known.get(name)
                is_link = seen is None or stat.S_ISLNK(seen.mode)
                target = _merged(self._places.link(path)) if is_link else None
                self.found.append(Unit(name, path, rank, target))
            elif name.endswith(".d"):
                inside = self._places.folder(self._kind, path)
                self._drop_ins.setdefault(name[:-2], []).extend(
                    item for item in inside.paths() if item.endswith(".conf")
                )
            elif name.endswith(_WANTING):
                self._search_wanted(path)

    def _search_wanted(self, folder: str) -> None:
        who = posixpath.basename(folder).rpartition(".")[0]
        for path in self._places.folder(self._kind, folder).paths():
            if len(self._wanted) < MAX_LINKS:
                self._wanted.setdefault(posixpath.basename(path), []).append((who, path))

    def starts(self) -> Iterator[Start]:
        """The rows of all units, and of what changes them."""
        in_force: dict[str, Unit] = {}
        for unit in sorted(self.found, key=lambda unit: (unit.rank, unit.name)):
            first = in_force.setdefault(unit.name, unit)
            yield from self._of_unit(unit, None if first is unit else f"overridden by {first.path}")
        for name, paths in sorted(self._drop_ins.items()):
            for path in paths:
                file = self._places.text(self._kind, path, report=False)
                if file is not None:
                    yield from self._of_file(file, f"{self._kind} drop-in", f"changes {name}", None)

    def _of_unit(self, unit: Unit, overridden: str | None) -> Iterator[Start]:
        wanted = self._wanted.get(unit.name, [])
        if unit.target is not None:
            yield from self._of_link(unit, wanted, overridden)
            return
        file = self._places.text(self._kind, unit.path, report=False)
        if file is None:
            return
        wanted = [*wanted, *self._of_templates.get(unit.name, ())] if "@." in unit.name else wanted
        state = overridden or self._state(unit, file, wanted)
        yield from self._of_file(file, self._kind, state, _wanted_by(wanted))

    def _of_link(self, unit: Unit, wanted: list[tuple[str, str]], overridden: str | None) -> Iterator[Start]:
        target = unit.target or ""
        outside = target not in self._known and not unit.is_masked
        if not outside and not unit.is_masked and posixpath.basename(target) == unit.name:
            return  # only another way to the same unit
        state = overridden or ("masked" if unit.is_masked else "linked" if outside else "alias")
        when = _wanted_by(wanted)
        attributes = self._places.attributes(unit.path, follow=False)
        what = None if unit.is_masked else target
        yield Start(self._kind, unit.path, None, what, when, self._owner, state, attributes)
        file = self._places.text(self._kind, unit.path, report=False) if outside else None
        if file is not None:
            yield from self._of_file(file, self._kind, state, when)

    def _state(self, unit: Unit, file: TextFile, wanted: list[tuple[str, str]]) -> Cell:
        """As `systemctl is-enabled` says it."""
        made = next((state for part, state in _MADE if unit.path.startswith(f"/run/systemd/{part}")), None)
        if made is not None:
            return made
        if file.attributes is not None and not file.attributes.size:
            return "masked"
        aliases = [link.path for link in self._links.get(unit.path, ()) if link.name != unit.name]
        links = [path for path in (*(path for _who, path in wanted), *aliases) if _is_configured(path)]
        return _linked_state(unit.name, file, links) if links else _unlinked_state(file)

    def _of_file(self, file: TextFile, kind: str, state: Cell, when: Cell) -> Iterator[Start]:
        """The lines that say what runs: commands, and of timers, paths, sockets and mounts what they wait
        for."""
        lines = list(joined(file.lines, "#;"))
        named = {match[1]: match[2] for line in lines if (match := _OTHERS.fullmatch(line.text))}
        user = named.get("User") or self._owner
        conditions = {match[1] for line in lines if (match := _CONDITION.fullmatch(line.text))}
        started = named.get("Unit") or named.get("Service") or _started(file.path)
        found = False
        for line in lines:
            start = _of_statement(file, line, started, when)
            if start is not None:
                found = True
                program = "" if state in _NOT_IN_FORCE else start.program
                yield start._replace(
                    kind=kind, user=user, state=state, program=program, is_conditional=program in conditions
                )
        if not found and not file.path.endswith(_RUN_NOTHING) and file.lack is not None:
            yield Start(kind, file.path, None, file.lack, when, user, state, file.attributes, file.lack)


def _of_statement(file: TextFile, line: Line, started: str | None, when: Cell) -> Start | None:
    """A line of a unit that runs or waits for something, or changes what is loaded; None for others."""
    command, trigger = _EXEC.fullmatch(line.text), _TRIGGERS.fullmatch(line.text)
    if command is not None and not command[2]:
        return of_line("", file, line, "(those before are dropped)", command[1])
    if command is not None:
        start = of_line("", file, line, command[2], _both(when, command[1]))
        return start._replace(program=program_of(command[2]))
    if trigger is not None and trigger[2]:
        return of_line("", file, line, started, _both(when, f"{trigger[1]}={trigger[2]}"))
    if line.text.startswith("Environment") and "LD_" in line.text:
        return of_line("", file, line, line.text, when)
    return None


def _linked_state(name: str, file: TextFile, links: list[str]) -> str:
    """The state of a unit to which links of the configuration lead."""
    if "@." in name and not _enables(name, file, links):
        return "indirect"
    return "enabled-runtime" if all(path.startswith("/run/") for path in links) else "enabled"


def _unlinked_state(file: TextFile) -> Cell:
    """The state of a unit that nothing of the configuration leads to."""
    installs = {line.text.partition("=")[0].strip() for line in _section(file.lines, "Install")}
    if file.lack is not None and not installs:
        return file.lack
    if installs & {"WantedBy", "RequiredBy", "UpheldBy", "Alias"}:
        return "disabled"
    return "indirect" if installs & {"Also", "DefaultInstance"} else "static"


def _enables(template: str, file: TextFile, links: list[str]) -> bool:
    """Whether one of the links is to the template itself, or to its instance of that is the default."""
    default = next(
        (
            line.text.partition("=")[2].strip()
            for line in _section(file.lines, "Install")
            if line.text.startswith("DefaultInstance")
        ),
        "",
    )
    names = {template, template.replace("@.", f"@{default}.")}
    return any(posixpath.basename(path) in names for path in links)


def _is_configured(path: str) -> bool:
    """Whether a link was made by an administrator or a user: those of packages enable nothing."""
    return path.startswith(("/etc/", "/run/")) or "/.config/" in path


def _wanted_by(wanted: list[tuple[str, str]]) -> str | None:
    who = dict.fromkeys(who for who, _path in wanted)
    return f"wanted by {', '.join(who)}" if who else None


def _merged(path: str | None) -> str | None:
    """A path below /lib as one below /usr/lib, where it leads on machines whose /usr is merged."""
    return f"/usr{path}" if path is not None and path.startswith("/lib/") else path


def _started(path: str) -> str | None:
    """The unit that a timer, path or socket starts if it names none."""
    stem, dot, suffix = posixpath.basename(path).rpartition(".")
    return f"{stem}.service" if dot and suffix in ("timer", "path", "socket") else None


def _both(when: Cell, more: str) -> str:
    return f"{more}; {when}" if when else more


def _section(lines: Iterable[Line], name: str) -> Iterator[Line]:
    inside = False
    for line in joined(lines, "#;"):
        if line.text.startswith("["):
            inside = line.text == f"[{name}]"
        elif inside:
            yield line


def program_of(command: str) -> str:
    """The program of a command line of a unit, if it is an absolute path and has to exist."""
    if command.startswith("-"):
        return ""
    word = command.lstrip(_PREFIXES).split(" ", 1)[0].strip("\"'")
    return word if word.startswith("/") and "%" not in word else ""


def starts(places: Places) -> Iterator[Start]:
    """Everything that the system's and the users' managers would run."""
    yield from Units(places, "unit", SYSTEM, "root").starts()
    yield from Units(places, "user unit", USER, "each user").starts()
    for home, account in places.homes:
        folders = [f"{home.rstrip('/')}/{folder}" for folder in OF_HOME]
        folders += [f"/run/user/{account.uid}/systemd/{name}" for name in ("transient", "generator", "user")]
        yield from Units(places, "user unit", folders, account.name).starts()
    for folder in places.distinct(GENERATORS):
        for script in places.scripts("generator", folder):
            state = None if script.is_executable else "not executable"
            when = "at shutdown" if folder.endswith("shutdown") else "at start"
            when = "before and after sleep" if folder.endswith("sleep") else when
            yield of_script("generator", script, when, state=state)
