"""credentials: what the guest's own /proc/PID/status said, and nothing wrong in clean guests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from attacks import ask
from blank_page import blank_copy, kernel_paddr
from generations import Lab

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.process_credentials.rules import Rules
from hybridbridge_vol.tools.process_credentials.values import (
    CAPABILITIES,
    Credentials,
    Process,
    capability_names,
)
from hybridbridge_vol.units import PAGE_SIZE

LAST = 40
"""CAP_LAST_CAP of 5.9 and later."""
ALL = (1 << LAST + 1) - 1
SECCOMP = ("off", "strict", "filter")


@pytest.fixture(scope="module")
def rows(lab: Lab) -> list[dict[str, Any]]:
    return ask(lab.session("6.1 two CPUs"), "credentials")


def status(lab: Lab, pid: int) -> dict[str, str]:
    reading = lab.sample("6.1 two CPUs").truth.late[f"/proc/{pid}/status"]
    lines = (line.partition(":\t") for line in reading.data.decode("utf-8", "replace").splitlines())
    return {name: value for name, _colon, value in lines}


def name_in(lab: Lab, pid: int) -> str:
    """As the kernel shows it: with all characters, and of a worker with what it works on."""
    return lab.sample("6.1 two CPUs").truth.late[f"/proc/{pid}/comm"].data.decode().removesuffix("\n")


def test_ids_and_rights_are_what_the_guest_said(lab: Lab, rows: list[dict[str, Any]]) -> None:
    known = {row["PID"]: row for row in rows}
    pids = lab.sample("6.1 two CPUs").truth.processes[:-1]  # the last one is the observer itself
    assert len(pids) > 50
    for pid in pids:
        row, said = known[pid], status(lab, pid)
        uid, euid, suid, _fsuid = map(int, said["Uid"].split())
        gid, egid, _sgid, _fsgid = map(int, said["Gid"].split())
        assert row["COMM"] == name_in(lab, pid), pid
        assert (row["UID"], row["EUID"], row["SUID"], row["GID"], row["EGID"]) == (uid, euid, suid, gid, egid)
        assert row["PPID"] == int(said["PPid"])
        effective, permitted = int(said["CapEff"], 16), int(said["CapPrm"], 16)
        assert (row["EFFECTIVE"] or "") == capability_names(effective, LAST)
        assert row["PERMITTED"] == (capability_names(permitted, LAST) if permitted != effective else None)
        assert row["SECCOMP"] == SECCOMP[int(said["Seccomp"])]
        assert row["NNP"] == ("yes" if said["NoNewPrivs"] == "1" else None)


def test_namespaces_differ_where_the_guests_links_do(lab: Lab, rows: list[dict[str, Any]]) -> None:
    links = lab.sample("6.1 two CPUs").truth.links
    checked = 0
    for row in rows:
        own, its = (
            {
                kind: links[path].data
                for kind in ("uts", "ipc", "mnt", "net", "cgroup", "user")
                if not getattr(links.get(path := f"/proc/{pid}/ns/{kind}"), "errno", 1)
            }
            for pid in (row["PID"], row["PPID"])
        )
        if len(own) < 6 or len(its) < 6:
            continue  # one has ended, or the guest did not read it
        shown = {name for name in (row["NAMESPACES"] or "").split(",") if name in own}
        assert shown == {kind for kind in own if own[kind] != its[kind]}, row["PID"]
        checked += bool(shown)
    assert checked


def test_nothing_is_wrong_in_a_guest_that_nobody_attacked(rows: list[dict[str, Any]]) -> None:
    assert [row for row in rows if row["VERDICT"] != "ok"] == []


def test_a_lost_task_is_one_row_and_all_others_are_shown(
    lab: Lab, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Its place in the list of tasks is in a page of zeros: those behind it are found from the other end."""
    session = lab.session("6.1 two CPUs")
    memory = TypedMemory(session.bridge)
    head = memory.at(memory.symbol("init_task"), "task_struct", "tasks")
    tasks = list(memory.list(head, "task_struct", "tasks"))
    nodes = [memory.at(task, "task_struct", "tasks") for task in tasks]
    middle = nodes[len(nodes) // 2]
    lost = {task for task, node in zip(tasks, nodes, strict=True) if node // PAGE_SIZE == middle // PAGE_SIZE}
    copy = blank_copy(session, [kernel_paddr(session, middle)], tmp_path / "blank.raw")
    with open_session(copy, lab.store.root) as other:
        found = ask(other, "credentials")
        listed = other.tasks.listed()
    copy.unlink()
    unread = [row for row in found if isinstance(row["PID"], Unavailable)]
    assert len(unread) == len(lost) == 1 and "task_struct at" in unread[0]["PID"].reason
    gone = {row["PID"] for row in rows} - {row["PID"] for row in found}
    assert len(gone) == 1 and len(found) == len(rows)
    assert len(listed.tasks) == len(tasks) - (listed.incomplete != "")


@pytest.mark.slow
def test_nothing_is_wrong_on_other_kernels(lab: Lab, generation: str) -> None:
    assert ask(lab.session(generation), "credentials", suspicious=True) == []


# --- the rules, each on processes that differ in one thing -------------------------------------------------

USER = Credentials(0x100, 1000, 1000, 1000, 1000, 1000, 0, 0, 0, 0, 1000, False)
ROOT = Credentials(0x200, 0, 0, 0, 0, 0, ALL, ALL, 0, 0, 0, False)
INIT = Process(0xA0, 1, 0, 0, "init", False, False, None, ROOT, ROOT.vaddr, "off", False, ())
SHELL = INIT._replace(task=0xB0, pid=20, ppid=1, parent=0xA0, name="sh", real=USER, subjective=USER.vaddr)
CHILD = SHELL._replace(
    task=0xC0, pid=30, ppid=20, parent=0xB0, name="child", real=USER._replace(vaddr=0x300), subjective=0x300
)
THREAD = INIT._replace(
    task=0xD0, pid=2, name="kthreadd", is_kernel_thread=True, real=ROOT._replace(vaddr=0x400)
)


def suspicions(child: Process) -> str:
    rules = Rules([INIT, SHELL, THREAD, child], 0x999, LAST)
    return "; ".join(rules.suspicions(child))


def changed(**fields: Any) -> Process:
    return CHILD._replace(real=CHILD.real._replace(**fields))


def test_a_process_with_rights_of_its_own_is_in_order() -> None:
    assert suspicions(CHILD) == ""
    daemon = changed(uid=0, user_uid=0, euid=0, suid=0, permitted=ALL, effective=ALL)._replace(parent=0xA0)
    assert suspicions(daemon) == ""


@pytest.mark.parametrize(
    ("child", "said"),
    [
        (changed(vaddr=USER.vaddr), "its credentials are also those of 20 sh"),
        (changed(vaddr=0x999), r".*the kernel's own \(init_cred\)"),
        (changed(uid=0), r"its user id is 0, .* user 1000; it is root, and its parent 20 sh is user 1000"),
        (changed(effective=1 << 21), "it has effective capabilities that are not permitted"),
        (changed(permitted=1, ambient=1), "it has ambient capabilities .*"),
        (changed(prepared_for_kernel=True), r".*\(prepare_kernel_cred\)"),
        (changed(uid=0, euid=0, user_uid=0), "it is root, and its parent 20 sh is user 1000"),
        (
            changed(euid=0),
            "its effective user id is 0, and neither .*; it is root, and its parent 20 sh is user 1000",
        ),
        (changed(effective=ALL, permitted=ALL), "it has all capabilities, and its user id is 1000"),
        (CHILD._replace(subjective=ROOT.vaddr), "it acts with the credentials of 1 init"),
    ],
)
def test_each_rule_finds_what_it_is_for(child: Process, said: str) -> None:
    assert re.fullmatch(said, suspicions(child))


@pytest.mark.parametrize(
    "child",
    [
        changed(euid=0, suid=0, permitted=ALL, effective=ALL)._replace(is_setuid_root=True),
        changed(prepared_for_kernel=True)._replace(parent=THREAD.task),
        changed(effective=1 << 50, permitted=0),
        changed(effective=ALL, permitted=ALL)._replace(namespaces=(0x700,)),
        changed(effective=ALL, permitted=ALL, inheritable=ALL, ambient=ALL),
    ],
    ids=[
        "a set-user-ID program",
        "a helper that the kernel started",
        "a capability that no kernel has",
        "a user namespace of its own",
        "a service with ambient capabilities",
    ],
)
def test_what_the_kernel_does_itself_is_in_order(child: Process) -> None:
    assert suspicions(child) == ""


def test_capabilities_have_their_names() -> None:
    assert capability_names(0, LAST) == ""
    assert capability_names(ALL, LAST) == "all"
    assert capability_names(1 << 21 | 1, LAST) == "chown,sys_admin"
    assert capability_names(1 << 60, LAST) == "60"
    assert len(CAPABILITIES) == LAST + 1
