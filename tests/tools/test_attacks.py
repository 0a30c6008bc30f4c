"""A rootkit of ours in a real guest: each of its techniques is found, by the tool and the row that
docs/attacks.md names; the same guest without it gives no row."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from attacks import KERNELS, ask, guest
from default_run import in_default_run
from generations import Lab

from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.units import PAGE_SIZE
from samples.attack_guest import MODULES
from samples.make import Sample, make_sample

ROOT = Path(__file__).resolve().parents[2]
UNLISTED_MODULE = "module that is not listed"
UNLISTED = "module area, no module listed there"
FOREIGN = "module without a trusted file"


class Finding(NamedTuple):
    """A row of a tool: in these columns it has text that matches."""

    tool: str
    columns: dict[str, str]


def hooked(kind: str, what: str, module: str = "ghost", verdict: str = UNLISTED_MODULE) -> Finding:
    """By default a function of the hidden module."""
    return Finding("hooks", {"KIND": kind, "WHAT": what, "MODULE": module, "VERDICT": verdict})


def checked(what: str, symbol: str) -> Finding:
    """A pointer to, or a jump into, a module that is on no list."""
    return Finding("check", {"WHAT": what, "SYMBOL": symbol, "LEADS": UNLISTED})


def helper(path: str, program: str) -> Finding:
    """A program that the kernel would run."""
    columns = {"KIND": "kernel helper", "RUNS": program, "FILE": path, "MARK": ".*unusual helper.*"}
    return Finding("persistence", columns)


def pointed(what: str, module: str = "ghost", verdict: str = UNLISTED_MODULE) -> Finding:
    """A pointer in an object that is on none of the lists which are followed."""
    return hooked("pointer", f"{what}(, by way of 0x\\w+)?", module, verdict)


def code(seen: str) -> Finding:
    """Executable memory that no module has."""
    return Finding("hidden", {"KIND": "code", "NAME": "", "SEEN": f"page tables: executable{seen}"})


FINDINGS = {
    "syscall": checked("syscall", r"sys_call_table\[217\]"),
    "inline": checked("text", "__x64_sys_acct.*"),
    "ftrace": hooked("ftrace", "calls of __x64_sys_mkdir", verdict=".*no ftrace_ops on .*"),
    "kprobe": hooked("kprobe", "before do_init_module.*"),
    "vfs": checked("rodata", r"proc_root_operations\+.*"),
    "directory": hooked("filesystem", r"rootfs .*\(iterate_shared\)"),
    "tcp": checked("rodata", r"tcp4_seq_ops\+.*"),
    "udp": hooked("proc", r"/proc/net/udp \(show\)"),
    "sniffer": hooked("packet", "all packets.* of type 0x0003"),
    "tty": hooked("tty", r"line discipline of ttyS0 \(receive_buf2\)"),
    "timer": hooked("timer", "timer on CPU 0"),
    "netfilter": hooked("netfilter", "ipv4 prerouting priority -1000", "spy", FOREIGN),
    "keyboard": hooked("notifier", "keyboard_notifier_list .*", "spy", FOREIGN),
    "process": Finding("hidden", {"KIND": "process", "NAME": "v_hidden", "MISSING": "task list"}),
    "socket": Finding("hidden", {"KIND": "socket", "NAME": "v_listens", "MISSING": "/proc/net"}),
    "thread": hooked("kthread", r"kernel thread \d+ kworker/0:7", "None", ".*no kthread.*"),
    "credentials": Finding("credentials", {"COMM": "v_steals", "VERDICT": r".*are also those of 1 init"}),
    "root": Finding("credentials", {"COMM": "v_forges", "VERDICT": ".*counted for user 1000.*"}),
    "module": Finding("hidden", {"KIND": "module", "NAME": "ghost", "MISSING": "/proc/modules, .*"}),
    "security": hooked("security", "security hook bprm_check_security"),
    "tracepoint": hooked("tracepoint", "tracepoint sys_enter"),
    "uprobe": hooked("uprobe", r"handler of inode \d+ at 0x\w+ \(uprobe\)"),
    "work": hooked("work", "work being done on CPU 0"),
    "delayed": hooked("timer", "delayed work on CPU 0"),
    "interrupt": hooked("interrupt", r"interrupt 5 eth0 \(handler\)"),
    "kthread": hooked("kthread", r"kernel thread \d+ kworker/u9:3"),
    "format": hooked("format", r"format of programs \(load_binary\)"),
    "device": hooked("device", r"character device 1:0-255 \(open\)"),
    "sysfs": hooked("sysfs", r"/sys/kernel/uevent_seqnum \(show\)"),
    "modprobe": helper("/proc/sys/kernel/modprobe", "/dev/shm/.load"),
    "core": helper("/proc/sys/kernel/core_pattern", r"\|/dev/shm/.core %p"),
    "poweroff": helper("/proc/sys/kernel/poweroff_cmd", "/dev/shm/.off"),
    "lines": pointed(r"seq_file\.op"),
    "name": pointed(r"dentry\.d_op"),
    "mapping": pointed(r"vm_area_struct\.vm_ops"),
    "class": pointed(r"task_struct\.sched_class"),
    "taskwork": pointed(r"task_struct\.task_works"),
    "endpoint": pointed(r"(udp_sock\.inet\.sk\.sk_data_ready|slab \S+)"),
    "tunnel": pointed(r"(udp_sock\.encap_rcv|slab \S+)"),
    "ethtool": pointed(r"slab kmalloc-\S+"),
    "family": pointed(r"slab radix_tree_node\S+"),
    "receiver": pointed(r"slab kmalloc-\S+"),
    "options": pointed(r"nf_sockopts\S*"),
    "esp": pointed("esp4_handlers"),
    "congestion": pointed(r"(tcp_cong_list|cubictcp)\S*"),
    "queue": pointed(r"\w+_qdisc_ops\S*"),
    "namespaces": pointed(r"\w+_net_ops\S*"),
    "tasklet": pointed(r"tasklet_vec\S* of CPU 0"),
    "dumper": pointed(r"dump_list\S*"),
    "input": pointed(r"input_handler_list\S*"),
    "cipher": pointed(r"crypto_alg_list\S*"),
    "keytype": pointed(r"key_types?_\S*"),
    "debugfs": pointed(r"(dentry\.d_fsdata|slab debugfs_inode_cache\S+)"),
    "driver": pointed(r"slab kmalloc-\S+"),
    "clock": pointed(r"clocksource_\S*"),
    "setting": pointed(r"slab kmalloc-\S+", "spy", FOREIGN),
    "power": pointed("pm_power_off", "spy", FOREIGN),
    "vmalloc": hooked("timer", "timer on CPU 0", "None", "no module: in no code"),
    "orphan": code(" and writable, allocated by no function of the kernel"),
    "page": code(" and writable, in the direct map"),
    "wiped": code(", allocated for a module"),
    "unnamed": Finding("hidden", {"KIND": "module", "NAME": "shade", "MISSING": "/proc/modules.*"}),
    "reboot": hooked(
        "notifier", "reboot_notifier_list priority 0", "None", "no module: in the area for modules"
    ),
}
"""By the attack's name in the rootkit."""
ESCALATED = Finding("credentials", {"COMM": "v_escalates", "VERDICT": r".*prepare_kernel_cred.*"})
"""What a process has become that knocked at the door of "inline"."""
OPTIONS = {
    "hooks": {"suspicious": True},
    "credentials": {"suspicious": True},
    "persistence": {"marked": True},
}
TOOLS = ("check", "hidden", "hooks", "credentials", "persistence")


@pytest.fixture(scope="module", params=in_default_run(KERNELS, "6.1 two CPUs"))
def attacked(request: pytest.FixtureRequest, lab: Lab) -> Sample:
    lab.sample(request.param)
    return make_sample(guest(request.param, "all"))


@pytest.fixture(scope="module")
def session(attacked: Sample, lab: Lab) -> Iterator[Session]:
    with open_session(attacked.dump, lab.store.root) as session:
        yield session


@pytest.fixture(scope="module")
def rows(session: Session) -> dict[str, list[dict[str, Any]]]:
    return {tool: ask(session, tool, **OPTIONS.get(tool, {})) for tool in TOOLS}


def matching(rows: list[dict[str, Any]], columns: dict[str, str]) -> list[dict[str, Any]]:
    return [
        row
        for row in rows
        if all(re.fullmatch(pattern, str(row[name]), re.DOTALL) for name, pattern in columns.items())
    ]


def test_every_attack_was_done(session: Session) -> None:
    said = dict(
        re.findall(r"rootkit: (\w+) (-?\d+)", "\n".join(row["MESSAGE"] for row in ask(session, "dmesg")))
    )
    assert said == dict.fromkeys([name for words in MODULES.values() for name in words], "0")


@pytest.mark.parametrize("attack", FINDINGS)
def test_each_attack_is_found_by_the_row_that_names_it(
    rows: dict[str, list[dict[str, Any]]], attack: str
) -> None:
    tool, columns = FINDINGS[attack]
    assert matching(rows[tool], columns), rows[tool]


def test_each_hook_is_found_where_other_pages_of_the_kernel_were_not_read(
    session: Session, rows: dict[str, list[dict[str, Any]]], lab: Lab, tmp_path: Path
) -> None:
    """One page in fifty of its code and constants is zeros, besides those that always are; none of those that
    a row is about."""
    bridge = session.bridge
    named = {bridge.snapshot(name) for name in ("linux_banner", "linux_proc_banner")}
    named |= {row["ADDRESS"] for row in rows["check"]}
    pages = [
        page
        for first, end in (("_text", "_etext"), ("__start_rodata", "__end_rodata"))
        for page in range(bridge.snapshot(first), bridge.snapshot(end) & -PAGE_SIZE, 50 * PAGE_SIZE)
        if not any(abs(page - vaddr) < 3 * PAGE_SIZE for vaddr in named)
        and any(bridge.virtual_memory.read_padded(page, PAGE_SIZE))
    ]
    copy = tmp_path / "holes.raw"
    subprocess.run(["cp", "--sparse=always", bridge.image.path, copy], check=True)
    with open(copy, "r+b") as stream:
        for page in pages:
            stream.seek(bridge.layout.text_paddr + page - bridge.layout.text_vaddr)
            stream.write(bytes(PAGE_SIZE))
    with open_session(copy, lab.store.root) as other:
        found = {tool: ask(other, tool, **OPTIONS.get(tool, {})) for tool in ("check", "hooks")}
    copy.unlink()
    said = [row["FOUND"] for row in found["check"] if isinstance(row["FOUND"], Unavailable)]
    reasons = [cell.reason for cell in said if cell.reason.endswith("pages are zeros and cannot be checked")]
    assert sum(int(reason.split()[0]) for reason in reasons) == len(pages)
    for tool, columns in FINDINGS.values():
        if tool in found:
            assert matching(found[tool], columns), columns


def test_a_process_that_came_by_root_through_the_rootkit_is_found(
    rows: dict[str, list[dict[str, Any]]],
) -> None:
    assert matching(rows["credentials"], ESCALATED.columns)


def test_nothing_else_is_suspected(rows: dict[str, list[dict[str, Any]]]) -> None:
    names = {row["COMM"] for row in rows["credentials"]}
    assert names == {"init", "v_steals", "v_forges", "v_escalates"}
    pointers = {"KIND": "pointer"}  # each leads to the rootkit's own code
    copied = {"KIND": "tty", "WHAT": r"line discipline of ttyS0 \(tty_ldisc_ops\)"}
    for tool in ("hooks", "persistence"):
        known = [
            copied,
            pointers,
            *(finding.columns for finding in FINDINGS.values() if finding.tool == tool),
        ]
        assert [row for row in rows[tool] if not any(matching([row], one) for one in known)] == []


def test_the_guests_own_tools_saw_nothing_of_what_was_hidden(attacked: Sample) -> None:
    truth = attacked.truth
    assert b"ghost" not in truth.late["/proc/modules"].data
    assert b":7A69 " not in truth.late["/proc/net/tcp"].data  # 31337


@pytest.mark.slow
@pytest.mark.parametrize("generation", KERNELS)
def test_the_same_guest_without_the_rootkit_gives_no_row(lab: Lab, generation: str) -> None:
    lab.sample(generation)
    with open_session(make_sample(guest(generation, "none")).dump, lab.store.root) as session:
        assert {tool: ask(session, tool, **OPTIONS.get(tool, {})) for tool in TOOLS} == {
            tool: [] for tool in TOOLS
        }


def test_what_cannot_be_read_because_of_an_attack_says_so(rows: dict[str, list[dict[str, Any]]]) -> None:
    """The function that replaced that of /proc/net/udp is not run, and a row says why the file is missing."""
    lost = [row["WHAT"].reason for row in rows["hidden"] if isinstance(row["WHAT"], Unavailable)]
    assert lost and all(
        re.match(r"/proc/\d+/net/udp: needs code of no module that .*", reason) for reason in lost
    )


def test_the_table_of_attacks_has_a_line_for_each() -> None:
    table = (ROOT / "docs" / "attacks.md").read_text()
    for attack, finding in FINDINGS.items():
        (line,) = re.findall(rf"^\| `{attack}` .*", table, re.MULTILINE)
        assert f"`{finding.tool}`" in line
