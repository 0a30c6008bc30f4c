"""users: equal to getent, passwd, chage, cvtsudoers and ssh-keygen in the guest
(samples/guest/people_accounts.sh)."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from answers import ask
from generations import Lab
from sessions import session_with

from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.host.account_files import describe_password, parse_passwd, parse_shadow
from hybridbridge_vol.tools.host.authorized_keys import fingerprint, parse_authorized_keys
from hybridbridge_vol.tools.host.sudo_rules import statements
from hybridbridge_vol.tools.host.text_file import Line
from hybridbridge_vol.tools.users import TOOL
from samples.people_guest import USERS
from samples.truth import Truth


def day(text: str) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(float(text)))


def lines(text: str) -> tuple[Line, ...]:
    return tuple(Line(number, line) for number, line in enumerate(text.split("\n"), 1))


def test_accounts_are_those_of_getent(people_session: Session, people_truth: Truth) -> None:
    rows = [row for row in ask(people_session, "users", kind=("account",)) if row["UID"] is not None]
    shown = [
        ":".join(
            map(str, (row["NAME"], row["UID"], row["GID"], row["DETAIL"] or "", row["HOME"], row["SHELL"]))
        )
        for row in rows
    ]
    native = [line.split(":") for line in people_truth.command("getent passwd").split("\n") if line]
    native = [fields for fields in native if fields[2]]  # not +nis, which has no number
    assert shown == [":".join((fields[0], *fields[2:])) for fields in native]
    assert len(shown) > 9


def test_groups_are_those_of_getent(people_session: Session, people_truth: Truth) -> None:
    rows = ask(people_session, "users", kind=("group",))
    shown = [f"{row['NAME']}:{row['GID']}:{row['GROUPS'] or ''}" for row in rows]
    native = [line.split(":") for line in people_truth.command("getent group").splitlines()]
    assert shown == [":".join((fields[0], *fields[2:])) for fields in native]
    accounts = {row["NAME"]: row for row in ask(people_session, "users", kind=("account",))}
    assert accounts["alice"]["GROUPS"] == "alice,wheel,staff2"


def test_passwords_and_ages_are_those_of_passwd_and_chage(
    people_session: Session, people_truth: Truth
) -> None:
    rows = {row["NAME"]: row for row in ask(people_session, "users", kind=("account",))}
    native = [line.split(" ") for line in people_truth.command("passwd -Sa").splitlines()]
    assert len(native) > 8 and native.pop()[0] == "odd\033[2Jname"  # not in shadow
    for name, state, *rest in native:
        password = rows[name]["PASSWORD"]
        shown = "NP" if password == "none" else "L" if password.startswith("locked") else "P"
        assert shown == state, name
        if not rest:  # a line without a date
            continue
        ages = rest[1:]
        spans = [-1 if span == "-" else int(span) for span in rows[name]["AGE"].split(" ")]
        assert spans == list(map(int, ages)), name
    for name in USERS:
        said = dict(
            re.split(r"\s*: ", line, maxsplit=1)
            for line in people_truth.command(f"chage -i -l {name}").splitlines()
        )
        row = rows[name]
        assert said["Last password change"] == day(row["CHANGED"]), name
        expires = "never" if row["EXPIRES"] is None else day(row["EXPIRES"])
        assert said["Account expires"] == expires, name
    assert rows["bob"]["PASSWORD"] == "locked (yescrypt)" and rows["alice"]["PASSWORD"] == "sha512crypt"


def test_hashes_are_shown_only_when_asked_for(people_session: Session) -> None:
    assert "$6$somesalt$" not in str(ask(people_session, "users"))
    shown = {
        row["NAME"]: row["HASH"] for row in ask(people_session, "users", secrets=True, kind=("account",))
    }
    assert shown["alice"].startswith("$6$somesalt$") and shown["bob"].startswith("!$y$j9T$")


def test_what_is_unusual_is_marked(people_session: Session) -> None:
    rows = ask(people_session, "users")
    marks = {row["NAME"]: row["MARK"] for row in rows if row["KIND"] == "account"}
    assert (
        "uid 0" in marks["toor"] and "same uid as root" in marks["toor"] and "unusual home" in marks["toor"]
    )
    assert "same uid as bob" in marks["twin"] and "no password" in marks["dave"]
    assert "control characters" in marks["odd\033[2Jname"]
    assert marks["alice"] is None and marks["root"] is None
    (nis,) = (row for row in rows if row["DETAIL"] == "+nis")
    assert nis["MARK"] == "not a line of its file" and nis["NAME"] is None
    assert all(row["MARK"] for row in ask(people_session, "users", marked=True))


def users_of(spec: dict[str, Any]) -> str:
    names = []
    for user in spec["User_List"]:
        ((kind, name),) = user.items()
        names.append(f"%{name}" if kind == "usergroup" else name)
    return ",".join(names)


def test_sudo_rules_are_those_of_cvtsudoers(people_session: Session, people_truth: Truth) -> None:
    native = json.loads(people_truth.command("cvtsudoers -f json /etc/sudoers"))
    rows = ask(people_session, "users", kind=("sudo",))
    rules = [row for row in rows if row["KIND"] == "sudo"]
    assert [row["NAME"] for row in rules] == [users_of(spec) for spec in native["User_Specs"]]
    for row, spec in zip(rules, native["User_Specs"], strict=True):
        commands = [command["command"] if "command" in command else command["cmndalias"]
                    for item in spec["Cmnd_Specs"] for command in item["Commands"]]  # fmt: skip
        assert all(command in row["DETAIL"] for command in commands), row
    unasked = [row["NAME"] for row in rules if row["MARK"] == "no password asked"]
    assert unasked == ["%wheel", "OPS", "carol"]
    assert {row["NAME"] for row in rows if row["KIND"] == "sudo alias"} == {"OPS", "SHELLS"}
    assert [row["FILE"] for row in rules][-2:] == ["/etc/sudoers.d/90-carol", "/etc/sudoers.more"]


def test_keys_have_the_fingerprints_of_ssh_keygen(people_session: Session, people_truth: Truth) -> None:
    rows = ask(people_session, "users", kind=("key",))
    for path in ("/root/.ssh/authorized_keys", "/home/alice/.ssh/authorized_keys"):
        native = re.findall(r"SHA256:\S+", people_truth.command(f"ssh-keygen -l -f {path}"))
        shown = [found[0] for row in rows if row["FILE"] == path
                 if (found := re.search(r"SHA256:\S+", row["DETAIL"]))]  # fmt: skip
        assert native and set(native) <= set(shown)
    alice = [row for row in rows if row["NAME"] == "alice"]
    assert [row["LINE"] for row in alice] == [2, 3, 4]
    assert "runs a command" in alice[1]["MARK"] and "damaged" in alice[2]["MARK"]
    assert "same key as root" in alice[0]["MARK"]
    (twin,) = (row for row in rows if row["NAME"] == "twin")
    assert twin["FILE"] == "/home/twin/.ssh/authorized_keys2"


def test_what_memory_lacks_is_said_for_each_file(people_session: Session, people: str, lab: Any) -> None:
    """The root directory of one process is on a disk, of which memory holds a part."""
    (pid,) = (
        pid for pid in people_session.files.listdir("/proc")
        if pid.isdecimal() and people_session.files.read(f"/proc/{pid}/comm") == b"thawing\n"
    )  # fmt: skip
    with open_session(lab.sample(people).dump, lab.store.root, root_of=int(pid)) as session:
        rows = ask(session, "users")
    lacks = {row["FILE"]: row["DETAIL"].reason for row in rows if isinstance(row["DETAIL"], Unavailable)}
    assert "of its" in lacks["/etc/passwd"]
    for path in ("/etc/shadow", "/etc/sudoers"):
        assert lacks[path].startswith(f"{path}: ") and lacks[path].endswith("not in memory")
    keys = [lack for path, lack in lacks.items() if "authorized_keys" in path]
    assert len(keys) == 1 and re.match(r"/home/\w+/.*authorized_keys2? and [1-9]\d\d more: ", keys[0])
    accounts = [row for row in rows if row["KIND"] == "account"]
    assert accounts[0]["NAME"] == "root" and accounts[0]["LINE"] == 1 and len(accounts) < 700
    assert isinstance(accounts[0]["PASSWORD"], Unavailable)


def test_a_kind_that_there_is_not_is_refused(people_session: Session) -> None:
    with pytest.raises(OptionError, match="there are account"):
        ask(people_session, "users", kind=("nobody",))


def test_lines_that_are_none_are_kept_apart() -> None:
    found = list(
        parse_passwd(lines("root:x:0:0::/root:/bin/sh\nbad\n:x:1:1:::\nbig:x:99999999999:1:::\n# c\n"))
    )
    assert [item.line.number for item in found] == [1, 2, 3, 4]
    assert [type(item).__name__ for item in found] == ["Account", *["Malformed"] * 3]
    (shadow,) = parse_shadow(lines("a:!:x:-1:99999999999:::12:"))
    assert (shadow.changed, shadow.minimum, shadow.maximum) == (None, None, None)  # type: ignore[union-attr]
    assert shadow.expires == 12 * 86400  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("", "none"), ("*", "locked"), ("!", "locked"), ("!!", "locked"), ("x", "unknown hash"),
        ("!$6$a$b", "locked (sha512crypt)"), ("$2y$05$abc", "bcrypt"), ("$y$j9T$a$b", "yescrypt"),
        ("ab0123456789.", "descrypt"), ("$5$a$b", "sha256crypt"),
    ],
)  # fmt: skip
def test_a_password_is_named_by_its_method(field: str, text: str) -> None:
    assert str(describe_password(field)) == text


def test_sudoers_are_read_as_sudo_does() -> None:
    text = (
        "a ALL=ALL # comment\nb ALL=\\\n  /bin/x\n#include /etc/more\n#1000 ALL=ALL\n%#10 ALL=ALL\n#comment\n"
    )
    assert [statement for _number, statement in statements(lines(text))] == [
        "a ALL=ALL", "b ALL=   /bin/x", "#include /etc/more", "#1000 ALL=ALL", "%#10 ALL=ALL",
    ]  # fmt: skip


def test_keys_are_parsed_with_their_options() -> None:
    text = 'command="echo \\"a b\\" # x",no-pty ssh-rsa AAAA c d\nssh-dss !!! x\n\nnonsense'
    keys = list(parse_authorized_keys(lines(text)))
    assert [(key.type, key.comment) for key in keys] == [
        ("ssh-rsa", "c d"), ("ssh-dss", "x"), ("not a key", "nonsense"),
    ]  # fmt: skip
    assert keys[0].options == 'command="echo \\"a b\\" # x",no-pty' and not keys[1].fingerprint
    assert fingerprint("") == "" and fingerprint("AAAA") == fingerprint("AAAA") != ""


def test_a_row_names_the_bytes_of_the_image_that_hold_its_line(lab: Lab, people: str) -> None:
    with session_with(lab, people, Mode.SLOW) as session:
        session.answer_labels.start()
        options = TOOL.defaults() | {"kind": ("account", "sudo")}
        rows = list(TOOL.rows(session, options))
        with open(lab.sample(people).dump, "rb") as image:
            for row in rows:
                provenance = session.answer_labels.of(row.sources)
                assert provenance.ranges and not provenance.trusted
                held = b""
                for offset, size in provenance.ranges:
                    image.seek(offset)
                    held += image.read(size)
                name = str(row.cells[1] if row.cells[0] != "sudo default" else row.cells[11])
                assert name.encode("utf-8", "surrogateescape") in held or row.cells[1] is None, row
                assert b"\n" not in held or row.cells[0].startswith("sudo"), row  # type: ignore[union-attr]
