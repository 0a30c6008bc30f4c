"""Every account, group, sudo rule and authorized key of a guest, with what is unusual about each."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.printable import printable
from hybridbridge_vol.tools.host import account_files as tables
from hybridbridge_vol.tools.host.account_files import Account, Group, Malformed, Shadow, describe_password
from hybridbridge_vol.tools.host.authorized_keys import Key, key_files, parse_authorized_keys, path_for
from hybridbridge_vol.tools.host.places import find_places
from hybridbridge_vol.tools.host.sudo_rules import Rule, SudoRules
from hybridbridge_vol.tools.host.text_file import Line, TextFile, read_text

PASSWD, GROUP, SHADOW = "/etc/passwd", "/etc/group", "/etc/shadow"
MAX_HOMES = 4096
"""Homes in which authorized_keys are looked for: each costs some calls."""
MAX_GROUP_NAMES = 4096
"""Names in one cell of groups or members."""
FIRST_USER = 1000
"""UID_MIN of login.defs(5): accounts below are the system's."""
_NO_SHELL = ("nologin", "false", "sync", "halt", "shutdown")
_ODD_HOMES = ("/tmp/", "/var/tmp/", "/dev/shm/")
_EVERYBODY = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Entry:
    """A row of `users`; its fields are the columns. `hash` is secret."""

    kind: str
    path: str
    line: Line | None = None
    name: Cell = None
    uid: Cell = None
    gid: Cell = None
    groups: Cell = None
    home: Cell = None
    shell: Cell = None
    password: Cell = None
    changed: Cell = None
    expires: Cell = None
    age: Cell = None
    detail: Cell = None
    hash: Cell = None
    marks: tuple[str, ...] = ()


class AccountBook:
    """Reads what there is of the tables when it is made. `host` is the guest's name."""

    def __init__(self, files: Files, host: str) -> None:
        self._files = files
        self._host = host
        self._found = {path: read_text(files, path) for path in (PASSWD, GROUP, SHADOW)}
        self._accounts = list(tables.parse_passwd(self._lines(PASSWD)))
        self._groups = list(tables.parse_group(self._lines(GROUP)))
        self._shadow: dict[str, Shadow] = {}
        self._bad_shadow: list[Malformed] = []
        for entry in tables.parse_shadow(self._lines(SHADOW)):
            if isinstance(entry, Shadow):
                self._shadow.setdefault(entry.name, entry)
            else:
                self._bad_shadow.append(entry)

    @property
    def accounts(self) -> list[Account]:
        """The accounts, in the order of passwd(5)."""
        return [item for item in self._accounts if isinstance(item, Account)]

    def _lines(self, path: str) -> Iterable[Line]:
        found = self._found[path]
        return found.lines if found is not None else ()

    def entries(self) -> Iterator[Entry]:
        """All rows: accounts, groups, sudo rules, keys; and last what could not be read."""
        yield from self._account_entries()
        yield from self._group_entries()
        rules = SudoRules(self._files, self._host)
        for rule in rules.read():
            yield _of_rule(rule, rules.files_read)
        lacks: list[Entry] = []
        yield from self._key_entries(lacks)
        for path, found in self._found.items():
            if found is None:
                yield Entry("file", path, detail="there is no such file")
            elif found.lack is not None:
                yield Entry("file", path, detail=found.lack)
        for path, line, lack in rules.lacks:
            yield Entry("file", path, line, detail=lack)
        yield from lacks

    # --- accounts and groups ------------------------------------------------------------------------------

    def _account_entries(self) -> Iterator[Entry]:
        first_of: dict[int, str] = {}
        names = Counter(account.name for account in self.accounts)
        groups = _Membership(item for item in self._groups if isinstance(item, Group))
        for account in self._accounts:
            if isinstance(account, Malformed):
                yield _malformed(PASSWD, account)
                continue
            known = first_of.setdefault(account.uid, account.name)
            entry = Entry(
                "account", PASSWD, account.line, account.name, account.uid, account.gid,
                groups.of(account), account.home, account.shell, detail=account.gecos or None,
            )  # fmt: skip
            entry = self._with_password(entry, account)
            marks = _marks_of(account, known, names[account.name])
            yield replace(entry, marks=(*marks, *entry.marks))
        known_names = {account.name for account in self.accounts}
        for shadow in self._shadow.values():
            if shadow.name not in known_names and self._is_whole(PASSWD):
                secret = shadow.password or None
                password = str(describe_password(shadow.password))
                yield Entry(
                    "account", SHADOW, shadow.line, shadow.name, password=password, changed=shadow.changed,
                    hash=secret, marks=("only in /etc/shadow",),
                )  # fmt: skip
        for bad in self._bad_shadow:
            # it may hold a hash, which only --secrets shows
            yield Entry("account", SHADOW, bad.line, hash=bad.text, marks=("not a line of its file",))

    def _is_whole(self, path: str) -> bool:
        found = self._found[path]
        return found is None or found.lack is None

    def _with_password(self, entry: Entry, account: Account) -> Entry:
        """With what passwd(5) or shadow(5) says of the password."""
        if account.password != "x":
            state = describe_password(account.password)
            marks: tuple[str, ...] = ("no password",) if state.empty else ()
            marks = ("hash in /etc/passwd",) if state.method else marks
            return replace(entry, password=str(state), hash=account.password or None, marks=marks)
        shadow = self._shadow.get(account.name)
        if shadow is None:
            found = self._found[SHADOW]
            lack: Cell = found.lack if found is not None else None
            return replace(entry, password=lack or "not in /etc/shadow", changed=lack, expires=lack, age=lack)
        state = describe_password(shadow.password)
        notes = ["no password"] if state.empty else []
        if not state.locked and 0 < account.uid < FIRST_USER:
            notes.append("password of a system account")
        ages = (shadow.minimum, shadow.maximum, shadow.warn, shadow.inactive)
        return replace(
            entry, password=str(state), hash=shadow.password or None, changed=shadow.changed,
            expires=shadow.expires, age=" ".join("-" if days is None else str(days) for days in ages),
            marks=tuple(notes),
        )  # fmt: skip

    def _group_entries(self) -> Iterator[Entry]:
        first_of: dict[int, str] = {}
        known = {account.name for account in self.accounts}
        for group in self._groups:
            if isinstance(group, Malformed):
                yield _malformed(GROUP, group)
                continue
            marks = []
            if first_of.setdefault(group.gid, group.name) != group.name:
                marks.append(f"same gid as {first_of[group.gid]}")
            strangers = [name for name in group.members if name not in known]
            if strangers and self._is_whole(PASSWD):
                marks.append(f"members without an account: {' '.join(strangers[:8])}")
            yield Entry(
                "group", GROUP, group.line, group.name, gid=group.gid, groups=_joined(group.members),
                marks=tuple(marks),
            )  # fmt: skip

    # --- keys ---------------------------------------------------------------------------------------------

    def _key_entries(self, lacks: list[Entry]) -> Iterator[Entry]:
        owner_of = self._owners_of_keys(lacks)
        seen: dict[str, str] = {}
        there, unknown = find_places(self._files, owner_of)
        for path in there:
            found, account = read_text(self._files, path), owner_of[path]
            if found is None:
                continue
            if found.lack is not None:
                lacks.append(Entry("file", path, name=account.name, detail=found.lack))
            for key in parse_authorized_keys(found.lines):
                yield _of_key(account, found, key, seen)
        lacks += [Entry("file", places.paths[0], detail=places.lack) for places in unknown]

    def _owners_of_keys(self, lacks: list[Entry]) -> dict[str, Account]:
        """The files in which keys may be, and whose: the first account's by that name."""
        patterns = key_files(self._files)
        owner_of: dict[str, Account] = {}
        homes: set[str] = set()
        for account in self.accounts:
            homes.add(account.home)
            if len(homes) > MAX_HOMES:
                lacks.append(
                    Entry(
                        "file", PASSWD, detail=Unavailable(f"{PASSWD}: keys of {MAX_HOMES:,} homes are read")
                    )
                )
                break
            for pattern in patterns if account.home.startswith("/") else ():
                path = path_for(pattern, account.name, account.uid, account.home)
                if "\0" not in path:
                    owner_of.setdefault(path, account)
        return owner_of


class _Membership:
    """Which groups name an account as a member."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self._names: dict[int, str] = {}
        self._of: dict[str, list[str]] = {}
        for group in groups:
            self._names.setdefault(group.gid, group.name)
            for member in dict.fromkeys(group.members):
                self._of.setdefault(member, []).append(group.name)

    def of(self, account: Account) -> str:
        """The account's groups as id(1) names them: the first one's name, or #GID; then the others."""
        first = self._names.get(account.gid, f"#{account.gid}")
        return _joined([first, *(name for name in self._of.get(account.name, ()) if name != first)]) or ""


def _joined(names: Iterable[str]) -> str | None:
    kept = list(names)
    more = f",... {len(kept) - MAX_GROUP_NAMES} more" if len(kept) > MAX_GROUP_NAMES else ""
    return (",".join(kept[:MAX_GROUP_NAMES]) + more) or None


def _marks_of(account: Account, first: str, times: int) -> Iterator[str]:
    if account.uid == 0 and account.name != "root":
        yield "uid 0"
    if first != account.name:
        yield f"same uid as {first}"
    if times > 1:
        yield "name stands twice"
    program = account.shell.rpartition("/")[2]
    if account.uid and account.uid < FIRST_USER and account.shell and program not in _NO_SHELL:
        yield "shell of a system account"
    if f"{account.home}/".startswith(_ODD_HOMES) or "/." in account.home:
        yield "unusual home"
    if printable(account.name) != account.name:
        yield "control characters"


def _malformed(path: str, entry: Malformed) -> Entry:
    kind = "account" if path == PASSWD else "group"
    return Entry(kind, path, entry.line, detail=entry.text, marks=("not a line of its file",))


def _of_rule(rule: Rule, files: dict[str, TextFile]) -> Entry:
    marks = []
    if rule.kind == "sudo" and ("NOPASSWD" in rule.what or "!authenticate" in rule.what):
        marks.append("no password asked")
    if rule.kind == "sudo default" and "!authenticate" in rule.what:
        marks.append("no password asked")
    found = files[rule.path]
    if found.attributes is not None and found.attributes.mode & _EVERYBODY:
        marks.append("file is writable for others")
    if found.attributes is not None and found.attributes.uid:
        marks.append("file is not root's")
    return Entry(rule.kind, rule.path, rule.line, rule.who, detail=rule.what, marks=tuple(marks))


def _of_key(account: Account, found: TextFile, key: Key, seen: dict[str, str]) -> Entry:
    marks = []
    if not key.fingerprint:
        marks.append("damaged")
    elif seen.setdefault(key.fingerprint, account.name) != account.name:
        marks.append(f"same key as {seen[key.fingerprint]}")
    if "command=" in key.options:
        marks.append("runs a command")
    if found.attributes is not None and found.attributes.mode & _EVERYBODY:
        marks.append("file is writable for others")
    if found.attributes is not None and found.attributes.uid not in (0, account.uid):
        marks.append("file is another user's")
    options = f"options: {key.options}" if key.options else ""
    detail = " ".join(filter(None, (key.type, key.fingerprint, key.comment, options)))
    return Entry("key", found.path, key.line, account.name, account.uid, detail=detail, marks=tuple(marks))
