"""The questions, asked by drgn: `python drgn_questions.py CORE VMLINUX QUESTION` in drgn's own environment.

One line for each answer, as `hb run` prints one row for each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import drgn
from drgn.helpers.linux.fs import d_path, for_each_file, for_each_mount, mount_dst, mount_fstype, mount_src
from drgn.helpers.linux.list import hlist_for_each_entry
from drgn.helpers.linux.list_nulls import hlist_nulls_for_each_entry
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.net import for_each_net
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.sched import task_state_to_char

_UNIX_HASH_SIZE = 256
"""UNIX_HASH_SIZE (include/net/af_unix.h)."""
_NULLS_NODE, _NODE = "__sk_common.skc_nulls_node", "__sk_common.skc_node"


def processes(program: drgn.Program) -> Iterator[str]:
    """PID, parent, user, state, start and name of each process."""
    for task in for_each_task(program):
        if task.pid == task.tgid:
            values = (
                task.pid, task.real_parent.tgid, task.cred.uid.val, task.start_time, task.utime, task.stime
            )  # fmt: skip
            numbers = " ".join(str(int(value)) for value in values)
            yield f"{numbers} {task_state_to_char(task)} {task.comm.string_().decode(errors='replace')}"


def modules(program: drgn.Program) -> Iterator[str]:
    """Name, address, size and users of each module."""
    for module in for_each_module(program):
        layout = module.core_layout
        name = module.name.string_().decode(errors="replace")
        yield f"{name} {int(layout.base):#x} {int(layout.size)} {int(module.refcnt.counter)}"


def sockets(program: drgn.Program) -> Iterator[str]:
    """Addresses and states of the sockets of TCP, UDP and UNIX in their hash tables."""
    table = program["tcp_hashinfo"]
    for index in range(int(table.ehash_mask) + 1):
        for sock in hlist_nulls_for_each_entry("struct sock", table.ehash[index].chain, _NULLS_NODE):
            yield _inet("tcp", sock)
    for index in range(int(table.lhash2_mask) + 1):
        for sock in hlist_nulls_for_each_entry("struct sock", table.lhash2[index].nulls_head, _NULLS_NODE):
            yield _inet("tcp", sock)
    udp = program["udp_table"]
    for index in range(int(udp.mask) + 1):
        for sock in hlist_for_each_entry("struct sock", udp.hash[index].head, _NODE):
            yield _inet("udp", sock)
    for net in for_each_net(program):
        for index in range(_UNIX_HASH_SIZE):
            for sock in hlist_for_each_entry("struct sock", net.unx.table.buckets[index], _NODE):
                yield f"unix {int(sock):#x} {int(sock.__sk_common.skc_state)}"


def _inet(kind: str, sock: drgn.Object) -> str:
    common = sock.member_("__sk_common")
    ends = (common.skc_rcv_saddr, common.skc_num, common.skc_daddr, common.skc_dport, common.skc_state)
    return f"{kind} " + " ".join(str(int(value)) for value in ends)


def files(program: drgn.Program) -> Iterator[str]:
    """PID, descriptor and path of each open file."""
    for task in for_each_task(program):
        if task.pid == task.tgid and task.files:
            for number, file in for_each_file(task):
                yield f"{int(task.pid)} {number} {d_path(file.f_path).decode(errors='replace')}"


def mounts(program: drgn.Program) -> Iterator[str]:
    """What is mounted where."""
    for mount in for_each_mount(program):
        parts = (mount_src(mount), mount_dst(mount), mount_fstype(mount))
        yield " ".join(part.decode(errors="replace") for part in parts)


def log(program: drgn.Program) -> Iterator[str]:
    """The kernel's log."""
    yield get_dmesg(program).decode(errors="replace")


QUESTIONS: dict[str, Callable[[drgn.Program], Iterator[str]]] = {
    "processes": processes,
    "modules": modules,
    "sockets": sockets,
    "open files": files,
    "mounts": mounts,
    "log": log,
}


def main() -> None:
    """Answer one question."""
    core, symbols, question = sys.argv[1:]
    program = drgn.Program()
    program.set_core_dump(core)
    program.load_debug_info([symbols])
    for line in QUESTIONS[question](program):
        print(line)


if __name__ == "__main__":
    main()
