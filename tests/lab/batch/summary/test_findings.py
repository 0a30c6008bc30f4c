"""What is unusual in an image: each rule holds where it should, and nowhere else."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest
from datasets import BOOTED, CAPTURED, INIT, KTHREADD, UPTIME, facts, image, process, thread
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbridge_vol.lab.batch.dataset import ToolRun
from hybridbridge_vol.lab.batch.summary.data import COLUMNS, Tables, cells_of
from hybridbridge_vol.lab.batch.summary.facts import Facts, facts_of
from hybridbridge_vol.lab.batch.summary.page import page_of
from hybridbridge_vol.lab.batch.summary.processes import thread_family
from hybridbridge_vol.lab.batch.summary.rarity import most, rare_findings
from hybridbridge_vol.lab.batch.summary.rules import not_run

USUAL = [INIT, KTHREADD, thread(12, "kworker/0:1-events"), process(90, "/usr/sbin/sshd -D")]


def held(known: Facts) -> dict[str, list[Any]]:
    return {finding.rule.name: list(finding.rows) for finding in known.findings}


def test_a_usual_image_has_no_finding() -> None:
    modules = [{"MODULE": "ext4", "STATE": "Live", "TAINTS": ""}]
    log: list[dict[str, Any]] = [
        {"LEVEL": "warn", "MESSAGE": "not so bad"},
        {"LEVEL": None, "MESSAGE": "no level"},
    ]
    assert (
        held(facts(ps=USUAL, lsmod=modules, dmesg=log, check=[], hidden=[], lsof=[], uptime=[UPTIME])) == {}
    )


@pytest.mark.parametrize("poser", [
    process(66, "[kworker/u4:1]"), process(67, "[kthreadd] now", VSZ=9),
    process(68, "[kworker/1:0]", VSZ=0), process(69, "[sh]", PPID=2),
])  # fmt: skip
def test_a_process_in_brackets_with_memory_or_another_parent_is_a_finding(poser: dict[str, Any]) -> None:
    assert held(facts(ps=[*USUAL, poser]))["poses"] == [poser]


def test_a_zombie_is_a_finding_of_its_own_only() -> None:
    zombie = process(70, "[sh] <defunct>", STAT="Z", VSZ=0)
    assert held(facts(ps=[*USUAL, zombie])) == {"zombies": [zombie]}


def test_deleted_programs_and_executable_mappings_are_findings() -> None:
    lsof = [
        {"PID": 7, "COMMAND": "x", "FD": "txt", "NAME": "/memfd:x (deleted)"},
        {"PID": 8, "COMMAND": "log", "FD": "3w", "NAME": "/var/log/old (deleted)"},
        {"PID": 8, "COMMAND": "log", "FD": "txt", "NAME": "/usr/bin/log"},
    ]
    maps = [
        {"PID": 8, "PERM": "r-xp", "PATH": "/tmp/lib.so (deleted)"},
        {"PID": 8, "PERM": "rw-p", "PATH": "/dev/zero (deleted)"},
        {"PID": 8, "PERM": "r-xp", "PATH": "/tmp/lib.so (deleted)"},
    ]
    rows = held(facts(lsof=lsof, maps=maps))["unlinked"]
    assert [(row["PID"], row["COMMAND"], row["FILE"]) for row in rows] == [
        (7, "x", "/memfd:x (deleted)"), (8, "log", "/tmp/lib.so (deleted)"),
    ]  # fmt: skip


def test_verdicts_that_are_not_the_usual_ones_are_findings() -> None:
    foreign: dict[str, Any] = {
        "KIND": "netfilter",
        "WHAT": "ipv4 input",
        "VERDICT": "module without a trusted file",
    }
    stolen = {"PID": 7, "COMM": "x", "VERDICT": "it is root, and its parent 6 sh is user 1000"}
    hooks: list[dict[str, Any]] = [
        {"KIND": "tty", "WHAT": "x", "VERDICT": "trusted"},
        {"KIND": "timer", "VERDICT": None},
        foreign,
    ]
    known = facts(hooks=hooks, credentials=[{"PID": 1, "COMM": "init", "VERDICT": "ok"}, stolen])
    assert held(known) == {"hooks": [foreign], "rights": [stolen]}


def test_what_the_kernels_tracers_have_changed_is_no_first_look_if_hooks_shows_for_whom() -> None:
    inline = {"WHAT": "text", "SYMBOL": "__x64_sys_kill"}
    traced = {"WHAT": "kprobe", "SYMBOL": "do_mkdirat", "LEADS": "kprobe_ftrace_handler"}
    hooks: list[dict[str, Any]] = [
        {
            "KIND": "kprobe",
            "WHAT": "before do_mkdirat",
            "SYMBOL": "spy",
            "VERDICT": "module that is not listed",
        },
        {"KIND": "ftrace", "WHAT": "calls of vfs_unlink", "SYMBOL": "bpf_x", "VERDICT": "BPF program"},
        {"KIND": "security", "WHAT": "file_open", "SYMBOL": "y", "VERDICT": "its code is changed (bpf)"},
        {"KIND": "timer", "WHAT": "timer", "SYMBOL": "z", "VERDICT": "its code is changed (text)"},
    ]
    found = held(facts(check=[inline, traced], hooks=hooks))
    assert found.keys() == {"check", "hooks", "traced"}
    assert (found["check"], found["hooks"]) == ([inline], [hooks[0], hooks[3]])
    assert [(row["SYMBOL"], row["BY"]) for row in found["traced"]] == [
        ("do_mkdirat", "check"), ("bpf_x", "hooks"), ("y", "hooks"),
    ]  # fmt: skip
    assert held(facts(check=[inline, traced])) == {"check": [inline, traced]}


def test_errors_in_the_log_and_tainted_modules_are_findings() -> None:
    bad, tainted = {"LEVEL": "err", "MESSAGE": "I/O error"}, {"MODULE": "rk", "STATE": "Live", "TAINTS": "OE"}
    found = held(
        facts(
            dmesg=[{"LEVEL": "info", "MESSAGE": "x"}, bad],
            lsmod=[tainted, {"MODULE": "m", "STATE": "Unloading", "TAINTS": ""}],
        )
    )
    assert found["errors"] == [bad] and found["tainted"] == [tainted]
    assert [row["MODULE"] for row in found["notlive"]] == ["m"]


def test_what_users_persistence_logins_and_containers_mark_are_findings() -> None:
    users: list[dict[str, Any]] = [
        {"KIND": "account", "NAME": "toor", "UID": 0, "MARK": "uid 0, same uid as root"},
        {"KIND": "account", "NAME": "www", "UID": 33, "MARK": "unusual home"},
        {"KIND": "sudo", "NAME": "%wheel", "MARK": "no password asked"},
        {"KIND": "account", "NAME": "alice", "UID": 1000, "MARK": None},
    ]
    starts: list[dict[str, Any]] = [
        {"KIND": "cron", "RUNS": "/tmp/.x", "MARK": "in a folder for temporary files, hidden name"},
        {"KIND": "generator", "RUNS": "/usr/lib/x", "MARK": "of no package"},
        {"KIND": "unit", "RUNS": "/usr/sbin/cron", "MARK": "newer than all packages"},
        {"KIND": "unit", "RUNS": "/usr/sbin/sshd", "MARK": None},
    ]
    logins: list[dict[str, Any]] = [
        {"KIND": "empty", "MARK": "zeroed record"},
        {"KIND": "login", "USER": "a", "MARK": None},
    ]
    containers = [
        {"NAME": "web", "MARK": "privileged, the host's root at /host"},
        {"NAME": "db", "MARK": "the host's ipc namespace"},
    ]
    found = held(facts(users=users, persistence=starts, logins=logins, containers=containers))
    assert found == {
        "accounts": [users[0]], "starts": [starts[0]], "starts-changed": [starts[1]],
        "login-records": [logins[0]], "containers": [containers[0]],
    }  # fmt: skip


def test_foreign_code_of_processes_is_a_finding_unless_an_engine_makes_code() -> None:
    rows: list[dict[str, Any]] = [
        {"PID": 7, "COMM": "sh", "KIND": "anonymous,writable", "WHY": "code"},
        {"PID": None, "COMM": None, "KIND": "preloaded", "PATH": "/opt/x.so"},
        {"PID": 8, "COMM": "node", "KIND": "jit,anonymous"},
        {"PID": 9, "COMM": "sshd", "KIND": "deleted"},
        {"PID": 9, "COMM": "sshd", "KIND": "uprobe"},
        {"PID": None, "COMM": None, "KIND": None},
    ]
    assert held(facts(malfind=rows)) == {"malfind": rows[:2]}


def test_programs_of_ebpf_that_interfere_are_a_finding() -> None:
    rows: list[dict[str, Any]] = [
        {"ID": 3, "MARKS": "writes memory of processes (bpf_probe_write_user)"},
        {"ID": 4, "MARKS": "sees packets before any filter (xdp eth0)"},
        {"ID": 5, "MARKS": "changes packets (bpf_skb_store_bytes); nothing that is known keeps it"},
        {"ID": 6, "MARKS": None},
    ]
    assert held(facts(bpf=rows)) == {"bpf": [rows[0], rows[2]]}


def test_parts_that_could_not_be_checked_are_not_called_different() -> None:
    hook, lacking = {"WHAT": "syscall", "SYMBOL": "__x64_sys_kill"}, {"WHAT": "missing", "SYMBOL": "rk"}
    assert {name: rows for name, rows in held(facts(check=[hook, lacking])).items()} == {
        "check": [hook],
        "unchecked": [lacking],
    }


def test_listening_sockets_are_grouped_by_who_can_connect() -> None:
    lsof = [
        {"COMMAND": "sshd", "PID": 90, "TYPE": "IPv6", "NODE": "TCP", "NAME": "*:22 (LISTEN)"},
        {"COMMAND": "db", "PID": 91, "TYPE": "IPv4", "NODE": "TCP", "NAME": "127.0.0.1:5432 (LISTEN)"},
        {
            "COMMAND": "db",
            "PID": 91,
            "TYPE": "IPv4",
            "NODE": "TCP",
            "NAME": "10.0.0.1:40000->10.0.0.2:443 (ESTABLISHED)",
        },
        {"COMMAND": "dns", "PID": 92, "TYPE": "IPv6", "NODE": "UDP", "NAME": "[::1]:53"},
    ]
    found = held(facts(lsof=lsof))
    assert [(row["PORT"], row["PID"]) for row in found["reachable"]] == [("22", 90)]
    assert [(row["PORT"], row["PID"]) for row in found["loopback"]] == [("5432", 91), ("53", 92)]
    netstat: list[dict[str, Any]] = [
        {
            "PROTO": "tcp6",
            "LOCAL": ":::22",
            "FOREIGN": ":::*",
            "STATE": "LISTEN",
            "PID": 90,
            "PROGRAM": "sshd",
        },
        {"PROTO": "tcp", "LOCAL": "127.0.0.1:9", "FOREIGN": "127.0.0.1:8", "STATE": "ESTABLISHED"},
    ]
    assert [row["PORT"] for row in held(facts(netstat=netstat))["reachable"]] == ["22"]


def test_a_netstat_without_listeners_says_nothing_about_ports() -> None:
    established = {"PROTO": "tcp", "LOCAL": "10.0.0.1:9", "FOREIGN": "10.0.0.2:8", "STATE": "ESTABLISHED"}
    assert "port" not in facts(netstat=[established]).names


def test_failed_tools_and_incomplete_rows_are_findings() -> None:
    runs: dict[str, Any] = {
        "ps": ToolRun("ps", "partial", 5, incomplete=1),
        "lsof": ToolRun("lsof", "timeout", error="timed out"),
    }
    known = facts_of(
        image(**runs), Tables({"ps": [{**INIT, "unreadable": {"CMD": "/proc/1/cmdline: page fault"}}]})
    )
    assert held(known)["incomplete"] == [
        {"TOOL": "ps", "ROWS": 5, "INCOMPLETE": 1, "FOR EXAMPLE": "/proc/1/cmdline: page fault"}
    ]
    assert held(known)["failures"] == [{"TOOL": "lsof", "STATUS": "timeout", "ERROR": "timed out"}]


def rare(batch: list[Facts]) -> dict[str, dict[str, list[str]]]:
    return {
        name: {finding.rule.name: [str(row.get("NAME", "")) for row in finding.rows] for finding in findings}
        for name, findings in rare_findings(batch).items() if findings
    }  # fmt: skip


def test_a_name_that_one_image_of_many_has_is_rare() -> None:
    batch = [facts(f"i{n}", ps=[*USUAL, *([process(666, "/tmp/x")] if n == 3 else [])]) for n in range(8)]
    assert rare(batch) == {"i3": {"rare-process": ["x"]}}


def test_few_images_are_not_compared() -> None:
    assert most(3) == 0
    assert rare([facts(f"i{n}", ps=[process(1, f"/bin/p{n}")]) for n in range(3)]) == {}


def test_modules_and_kernel_threads_are_compared_among_images_of_one_kernel() -> None:
    same = [facts(f"i{n}", lsmod=[{"MODULE": "ext4", "STATE": "Live", "TAINTS": ""}]) for n in range(5)]
    other = facts("other", kernel="5.10-x", lsmod=[{"MODULE": "jfs", "STATE": "Live", "TAINTS": ""}])
    assert rare([*same, other]) == {}


def test_an_image_without_the_table_is_not_counted_as_one_that_lacks_the_name() -> None:
    asked = [facts(f"i{n}", ps=USUAL) for n in range(3)]
    assert rare([*asked, facts("odd", ps=[*USUAL, process(666, "/tmp/x")]), facts("unasked", lsmod=[])]) == {
        "odd": {"rare-process": ["x"]}
    }


def test_kernel_threads_of_all_cpus_are_one_family() -> None:
    assert {thread_family(name) for name in ("kworker/0:1-events", "kworker/u4:2", "kworker/3:0H")} == {
        "kworker"
    }
    assert thread_family("migration/0") == thread_family("migration/11")


def test_an_uptime_far_from_the_others_is_a_finding() -> None:
    batch = [
        facts(f"i{n}", uptime=[{**UPTIME, "UP": up}])
        for n, up in enumerate((500.0, 600.0, 700.0, 20.0, 600.0))
    ]
    assert list(rare(batch)) == ["i3"]


def test_times_that_a_guest_cannot_have_are_not_drawn() -> None:
    known = facts(
        uptime=[UPTIME],
        ps=[process(9, "x", START=BOOTED + 5), process(10, "y", START=1.0), process(11, "z", START=9e17)],
    )
    assert known.moments.starts == (BOOTED + 5,)
    assert facts(uptime=[{**UPTIME, "BOOTED": CAPTURED + 99}]).moments.booted is None


def test_rules_name_the_tools_they_lack() -> None:
    names = {rule.name for rule in not_run(facts(ps=USUAL).tables)}
    assert {"check", "hidden", "unlinked", "tainted"} <= names and not {"poses", "zombies"} & names


CELLS: tuple[Any, ...] = (
    None, True, 0, 1, 2, -1, 1 << 63, -(1 << 70), 0.5, float("nan"), float("inf"), -1e308, 1e308,
    BOOTED, CAPTURED, "", "[x]", "[x] y", "Z", "tcp", "udp", "LISTEN", "UNCONN", "UDP", "TCP", "IPv4", ":",
    "1:99999", "²:²", "*:*", "x (LISTEN)", "txt", "r-xp", "all", "Mem", "err", "/memfd:x",
    "\ud800", "\x00", "</script>", [], {}, b"x",
)  # fmt: skip


def any_tables(random: Random) -> dict[str, list[dict[str, Any]]]:
    """Tables as no tool would make them: any cell anywhere, or none."""

    def row(tool: str) -> Any:
        return cells_of(tool, {name: random.choice(CELLS) for name in (*COLUMNS[tool], "unreadable")})

    return {
        tool: [row(tool) for _ in range(random.randrange(4))] for tool in COLUMNS if random.random() < 0.8
    }


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 32))
def test_absurd_rows_do_not_break_the_page(seed: int) -> None:
    random = Random(seed)
    batch = [facts(f"i{n}", **cast(Any, any_tables(random))) for n in range(5)]
    assert page_of(batch).endswith("</html>\n")
    assert all(finding.rows for known in batch for finding in known.findings)
