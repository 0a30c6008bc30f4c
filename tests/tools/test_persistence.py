"""persistence: what the guest was made to start by itself (samples/guest/people_persistence.sh), held against
crontab, atq, run-parts and systemctl."""

from __future__ import annotations

import time
from typing import Any

import pytest
from answers import ask
from generations import Lab

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Unavailable, utc
from hybridbridge_vol.tools.autostart import cron, marks, places, scripts, system
from hybridbridge_vol.tools.autostart.places import joined
from hybridbridge_vol.tools.autostart.units import program_of
from hybridbridge_vol.tools.host.authorized_keys import parse_authorized_keys
from hybridbridge_vol.tools.host.sudo_rules import statements
from hybridbridge_vol.tools.host.text_file import Line, TextFile
from samples.make import Spec, make_sample
from samples.truth import Truth


@pytest.fixture
def rows(
    people_session: Session, answers: dict[str, list[dict[str, Any]]], people: str
) -> list[dict[str, Any]]:
    if people not in answers:
        answers[people] = ask(people_session, "persistence")
    return answers[people]


@pytest.fixture(scope="module")
def answers() -> dict[str, list[dict[str, Any]]]:
    return {}


def the(rows: list[dict[str, Any]], path: str, line: int | None = None) -> dict[str, Any]:
    (row,) = (row for row in rows if row["FILE"] == path and (line is None or row["LINE"] == line))
    return row


def test_crontabs_are_those_of_crontab(rows: list[dict[str, Any]], people_truth: Truth) -> None:
    for user in ("root", "alice"):
        printed = [
            line for line in people_truth.command(f"crontab -u {user} -l").splitlines() if line[:1] not in "#"
        ]
        shown = [row for row in rows if row["FILE"] == f"/var/spool/cron/crontabs/{user}"]
        assert {row["USER"] for row in shown} == {user}
        assert printed == [
            row["RUNS"] if row["WHEN"] == "setting" else f"{row['WHEN']} {row['RUNS']}" for row in shown
        ]


def test_scripts_of_cron_are_those_that_run_parts_runs(
    rows: list[dict[str, Any]], people_truth: Truth
) -> None:
    runs = [
        row["FILE"] for row in rows if row["FILE"].startswith("/etc/cron.daily/") and row["STATE"] is None
    ]
    assert (
        runs == people_truth.command("run-parts --test /etc/cron.daily").split() == ["/etc/cron.daily/clean"]
    )
    states = {row["FILE"]: row["STATE"] for row in rows}
    assert states["/etc/cron.daily/noexec"] == "not executable"
    assert (
        states["/etc/cron.daily/not.run"] == states["/etc/cron.d/ignored.dpkg-old"] == "ignored for its name"
    )


def test_jobs_of_at_are_those_of_atq(rows: list[dict[str, Any]], people_truth: Truth) -> None:
    jobs = [row for row in rows if row["KIND"] == "at"]
    assert [row["RUNS"] for row in jobs] == ["/usr/local/bin/later --once"]
    (line,) = people_truth.command("atq").splitlines()
    assert "Thu Dec 31 23:30:00 2026" in line and line.endswith(" root")
    assert jobs[0]["WHEN"] == "once at 2026-12-31 23:30:00Z" and jobs[0]["USER"] == "root"


def test_units_are_in_the_states_of_systemctl(rows: list[dict[str, Any]], people_truth: Truth) -> None:
    printed = people_truth.command("systemctl --root=/ list-unit-files --no-legend --no-pager --full")
    native = dict(line.split()[:2] for line in printed.splitlines())
    shown: dict[str, str] = {}
    for row in rows:
        if row["KIND"] == "unit" and not str(row["STATE"]).startswith("overridden"):
            shown.setdefault(row["FILE"].rpartition("/")[2], row["STATE"])
    assert len(shown) > 10
    assert shown == {name: state for name, state in native.items() if not name.endswith(".target")}


def test_what_units_run_is_shown_with_drop_ins(rows: list[dict[str, Any]]) -> None:
    evil = the(rows, "/etc/systemd/system/evil.service")
    assert (evil["RUNS"], evil["LINE"]) == ("/dev/shm/.u -d", 4)
    assert evil["WHEN"] == "ExecStart; wanted by multi-user.target" and evil["PACKAGE"] is None
    assert {"in a folder for temporary files", "hidden name", "newer than all packages"} <= set(
        evil["MARK"].split(", ")
    )
    package = the(rows, "/usr/lib/systemd/system/pkg.service", 7)
    assert package["RUNS"] == "/usr/sbin/pkgd --foreground" and package["PACKAGE"] == "pkg"
    override = [row["RUNS"] for row in rows if row["FILE"].endswith("/pkg.service.d/override.conf")]
    assert override == [
        "(those before are dropped)", "/opt/pkg/pkgd --patched",
        "Environment=LD_PRELOAD=/usr/local/lib/hook.so",
    ]  # fmt: skip
    changed = the(rows, "/usr/lib/systemd/system/idle.service")
    assert changed["MARK"] == "changed after its package was installed"
    timer = the(rows, "/usr/lib/systemd/system/tidy.timer", 2)
    assert timer["RUNS"] == "tidy.service" and timer["WHEN"].startswith("OnBootSec=15min")
    user = the(rows, "/home/alice/.config/systemd/user/sync.service")
    assert (user["KIND"], user["USER"], user["STATE"]) == ("user unit", "alice", "enabled")


@pytest.mark.parametrize(
    ("kind", "path", "runs", "mark"),
    [
        ("cron", "/etc/cron.d/backup", "/tmp/.x/update >/dev/null 2>&1", "hidden name"),
        ("rc.local", "/etc/rc.local", "/opt/start &", "program does not exist"),
        ("init script", "/etc/init.d/old", "/etc/init.d/old", "of no package"),
        ("shell", "/etc/profile.d/zz.sh", "nohup /tmp/.x/beacon >/dev/null 2>&1 &", "temporary files"),
        ("shell", "/home/alice/.bashrc", "LD_PRELOAD=/tmp/x.so", "sets what libraries are loaded"),
        ("shell", "/root/.bashrc", 'PROMPT_COMMAND="history -a"', ""),
        ("motd", "/etc/update-motd.d/10-uname", "/etc/update-motd.d/10-uname", "newer than all packages"),
        ("environment", "/etc/environment", "LD_PRELOAD=/usr/local/lib/env.so", "sets what libraries"),
        ("ld.so.preload", "/etc/ld.so.preload", "/usr/local/lib/hook.so", "loaded into every program"),
        ("ld.so.conf", "/etc/ld.so.conf.d/local.conf", "/var/tmp/lib", "temporary files"),
        ("modprobe", "/etc/modprobe.d/x.conf", '/bin/sh -c "id; /sbin/modprobe --ignore-install dummy"', ""),
        ("pam module", "/usr/lib/x86_64-linux-gnu/security/pam_backdoor.so",
         "/usr/lib/x86_64-linux-gnu/security/pam_backdoor.so", "of no package"),
        ("autostart", "/home/alice/.config/autostart/x.desktop", "/home/alice/.cache/.d/d", "hidden name"),
        ("binfmt", "/etc/binfmt.d/x.conf", "/usr/local/bin/interp", "program does not exist"),
        ("initramfs", "/etc/initramfs-tools/hooks/implant", "/etc/initramfs-tools/hooks/implant", ""),
        ("initramfs", "/etc/initramfs-tools/scripts/init-bottom/implant",
         "/etc/initramfs-tools/scripts/init-bottom/implant", ""),
        ("generator", "/usr/lib/systemd/system-generators/made-up",
         "/usr/lib/systemd/system-generators/made-up", "of no package"),
    ],
)  # fmt: skip
def test_each_place_has_its_row(
    rows: list[dict[str, Any]], kind: str, path: str, runs: str, mark: str
) -> None:
    row = the(rows, path)
    assert (row["KIND"], row["RUNS"], row["READ"]) == (kind, runs, "whole")
    assert mark in (row["MARK"] or "")


def test_rules_modules_and_pam_lines_are_told_from_comments(rows: list[dict[str, Any]]) -> None:
    udev = [row for row in rows if row["FILE"] == "/etc/udev/rules.d/99-run.rules"]
    assert [(row["RUNS"], row["LINE"]) for row in udev] == [
        ("/usr/local/sbin/on-net $env{INTERFACE}", 2), ("kmod load", 2), ("/usr/bin/probe %k", 5),
        ("/usr/bin/import", 5),
    ]  # fmt: skip
    assert 'SUBSYSTEM=="net"' in udev[0]["WHEN"]
    assert [row["RUNS"] for row in rows if row["KIND"] == "module"] == ["loop", "dummy", "rootkit_lkm"]
    pam = {row["LINE"]: row["MARK"] or "" for row in rows if row["FILE"] == "/etc/pam.d/sshd"}
    assert set(pam) == {3, 4, 5}
    assert "module of no package" in pam[3] and "runs a program" in pam[5] and "module" not in pam[4]
    assert the(rows, "/usr/lib/x86_64-linux-gnu/security/pam_unix.so")["MARK"] is None


def test_no_text_of_the_guest_makes_a_row_or_hides_in_one(rows: list[dict[str, Any]]) -> None:
    row = the(rows, "/etc/cron.d/escape")
    assert "\033]0;title\007" in row["RUNS"] and "control characters" in row["MARK"]
    assert "file is writable for everybody" in row["MARK"]
    assert the(rows, "/etc/crontab", 6)["MARK"] == "not a line of its file"


def test_rows_are_chosen_by_kind_mark_and_path(people_session: Session, rows: list[dict[str, Any]]) -> None:
    assert {row["KIND"] for row in ask(people_session, "persistence", kind=("at", "motd"))} == {"at", "motd"}
    marked = ask(people_session, "persistence", marked=True)
    assert marked == [row for row in rows if row["MARK"]]
    assert {row["FILE"] for row in ask(people_session, "persistence", path="/etc/pam.d/*")} == {
        "/etc/pam.d/sshd", "/etc/pam.d/common-auth",
    }  # fmt: skip
    with pytest.raises(OptionError, match="no such kind"):
        ask(people_session, "persistence", kind=("x",))


def test_what_memory_lacks_is_said(people_session: Session, people: str, lab: Any) -> None:
    (pid,) = (
        pid for pid in people_session.files.listdir("/proc")
        if pid.isdecimal() and people_session.files.read(f"/proc/{pid}/comm") == b"thawing\n"
    )  # fmt: skip
    with open_session(lab.sample(people).dump, lab.store.root, root_of=int(pid)) as session:
        found = ask(session, "persistence")
    lacks = {row["FILE"]: row["RUNS"].reason for row in found if isinstance(row["RUNS"], Unavailable)}
    assert lacks["/var/lib/dpkg/info"].endswith("not in memory") and "/var/spool/cron" in lacks
    assert "of its" in lacks["/etc/passwd"] and "not in memory" in lacks["/etc/passwd"]


# --- parsers ----------------------------------------------------------------------------------------------


def file(data: bytes, path: str = "/x") -> TextFile:
    lines = tuple(Line(number, text(line)) for number, line in enumerate(data.split(b"\n"), 1))
    return TextFile(path, None, lines)


def test_lines_that_the_skeleton_has_are_not_marked_for_a_hidden_name() -> None:
    """Debian's /etc/skel/.bashrc reads ~/.dircolors."""
    skeleton = file(b'  test -r ~/.dircolors && eval "$(dircolors -b ~/.dircolors)"\n', "/etc/skel/.bashrc")
    own = file(
        b'  test -r ~/.dircolors && eval "$(dircolors -b ~/.dircolors)"\n~/.update.sh &\n', "/home/a/.bashrc"
    )
    theirs = frozenset(line.text for line in places.meaningful(skeleton.lines))
    known, added = scripts.commands(own, "shell", "the user's shells", "a", theirs)
    assert (known.state, added.state) == (marks.FROM_SKELETON, None)
    assert "hidden name" not in marks.of_text(known)
    assert "hidden name" in marks.of_text(added)


@pytest.mark.parametrize(
    ("command", "is_hidden"),
    [
        ('[ -r "${XDG_CONFIG_HOME:-$HOME/.config}/bash_completion" ] &&', False),  # Debian's, /etc/profile.d
        ("~/.local/bin/sync", False),
        ("~/.config/.x", True),
        ("~/.config-x/run", True),
        ("${HOME}/.x}", True),
    ],
)
def test_usual_folders_of_a_home_are_not_hidden_names(command: str, is_hidden: bool) -> None:
    (start,) = scripts.commands(file(command.encode() + b"\n"), "shell", "each login shell", "a", frozenset())
    assert ("hidden name" in marks.of_text(start)) == is_hidden


def test_tables_of_cron_are_parsed_as_cron_does() -> None:
    data = b"@daily  root  a  b\n 1,2-3/4 * 1 jan sun\tbob\tc % d\nX = y\nLD_PRELOAD=/x\n* * * * root x\n"
    data += b"* * * * * root\n"
    found = list(cron.table(file(data), with_user=True))
    assert [(start.when, start.user, start.what) for start in found] == [
        ("@daily", "root", "a  b"), ("1,2-3/4 * 1 jan sun", "bob", "c % d"),
        ("setting", None, "LD_PRELOAD=/x"),
        (None, None, "* * * * root x"), (None, None, "* * * * * root"),
    ]  # fmt: skip
    assert [bool(start.marks) for start in found] == [False, False, False, True, True]


def test_a_job_of_at_is_read_behind_its_environment() -> None:
    data = b"#!/bin/sh\n# atrun uid=1000 gid=1000\numask 22\nA=1\ncd / || {\n\techo x\n\texit 1\n}\n"
    data += b"run me\n"
    (start,) = cron.job(file(data, "/var/spool/cron/atjobs/a0000101c9b0a8"))
    assert (start.what, start.user, start.line) == ("run me", "#1000", 9)
    assert start.when == f"once at {utc(0x01C9B0A8 * 60)}"
    assert not list(cron.job(file(b"1\n", "/var/spool/cron/atjobs/.SEQ")))


def test_continuation_lines_are_joined_around_comments() -> None:
    lines = file(b"a \\\n# no\n b\\\nc\n;x\nd").lines
    assert [(line.number, line.text) for line in joined(lines, "#;")] == [(1, "a b c"), (6, "d")]
    endless = tuple(Line(number, "x" * 900 + "\\") for number in range(500))
    (line,) = joined(endless)
    assert len(line.text) == places.MAX_STATEMENT


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("@/bin/sh sh -c x", "/bin/sh"),
        ("-/bin/a b", ""),
        ("+!!/bin/a", "/bin/a"),
        ("a b", ""),
        ("/x/%i y", ""),
    ],
)
def test_the_program_of_a_unit_is_found(command: str, program: str) -> None:
    assert program_of(command) == program


def test_no_pattern_takes_long_on_hostile_lines() -> None:
    hostile = (
        "* " * 4000, "a=" * 4000, "(" * 8000, 'RUN+="' + "\\" * 8001, "x" * 8000 + ":", "A " * 4000 + "=",
        "APT::" + "Invoke" * 9000, "A{" * 9000, "A" * 60000, '"' + '\\"' * 9000, "a , " * 16000,
    )  # fmt: skip
    begun = time.process_time()
    for line in hostile:
        list(cron.table(file(line.encode()), with_user=True))
        list(scripts.commands(file(line.encode()), "shell", "", None))
        list(statements(file(line.encode()).lines))
        list(parse_authorized_keys(file(line.encode()).lines))
        list(system.udev_rule(file(line.encode()), None))
        list(system.package_hooks(file(line.encode())))
    assert time.process_time() - begun < 2


def test_what_the_kernel_runs_itself_is_what_its_own_files_name(lab: Lab) -> None:
    """samples/guest/pseudo_init.sh: an agent of control groups, handlers of formats, one with set-user-ID
    rights. The kernel's own defaults have no mark, whether there is such a program or not."""
    lab.sample("6.1 two CPUs")  # its kernel is trusted from then on
    sample = make_sample(Spec("6.1-cloud", light=True, pseudo=True))
    with open_session(sample.dump, lab.store.root) as session:
        rows = ask(session, "persistence", kind=("kernel helper", "binfmt"))
    shown = {row["FILE"]: (row["RUNS"], row["STATE"], row["MARK"]) for row in rows}
    hidden = "in a folder for temporary files, hidden name, program does not exist"
    formats = "/proc/sys/fs/binfmt_misc"
    assert shown == {
        "/proc/sys/kernel/modprobe": ("/sbin/modprobe", "as the kernel begins", None),
        "/proc/sys/kernel/poweroff_cmd": ("/sbin/poweroff", "as the kernel begins", None),
        "/sys/fs/cgroup/pids/release_agent": ("/dev/shm/.agent", "in force", f"unusual helper, {hidden}"),
        f"{formats}/inherits": ("/dev/shm/.run", "enabled", f"runs with the rights of the file, {hidden}"),
        f"{formats}/spied": ("/usr/bin/cat", "enabled", None),
    }
    for name, program in (("inherits", "/dev/shm/.run"), ("spied", "/usr/bin/cat")):
        assert f"interpreter {program}\n" in sample.truth.late[f"{formats}/{name}"].data.decode()
