"""credentials: the rights of each process, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import names_of_kernel_threads

if TYPE_CHECKING:
    from hybridbridge_vol.tools.process_credentials.values import Process

_NOTHING_WRONG = "ok"


class ProcessCredentials(Tool):
    name = "credentials"
    help = "User ids, capabilities, seccomp and namespaces of each process, and rights it was not given"
    notes = (
        "Ids are the kernel's own, those of the first user namespace. VERDICT is ok unless the rights cannot "
        "have come by fork, execve, setuid and their like: credentials that belong to another process or to "
        "the kernel too, a user id that is not the one whose resources are counted, capabilities that are "
        "effective without being permitted, credentials as prepare_kernel_cred() makes them, root below a "
        "parent that is not root without a program with the set-user-ID bit. The last one is also what a "
        "program like pkexec or doas leaves, which becomes what it starts. A process that is on no list is "
        "not here: `hidden` finds it."
    )
    options = (Option("suspicious", bool, "only those with which something is wrong", short="s"),)
    columns = (
        Column("PID", "int", "process id, in the first namespace"),
        Column("PPID", "int", "its parent"),
        Column("COMM", "str", "its name"),
        Column("UID", "int", "real user id"),
        Column("EUID", "int", "effective user id"),
        Column("SUID", "int", "saved user id"),
        Column("GID", "int", "real group id"),
        Column("EGID", "int", "effective group id"),
        Column("LOGIN", "int", "the user who logged in (loginuid); empty: nobody"),
        Column("EFFECTIVE", "str", "effective capabilities"),
        Column("PERMITTED", "str", "permitted capabilities, if they are others"),
        Column("SECCOMP", "str", "off, strict or filter"),
        Column("NNP", "str", "yes: no_new_privs is set"),
        Column("NAMESPACES", "str", "those that are not its parent's"),
        Column("CRED", "hex", "its struct cred"),
        Column("VERDICT", "str", "ok, or what is wrong"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
        from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
        from hybridbridge_vol.tools.process_credentials.read import TaskReader
        from hybridbridge_vol.tools.process_credentials.rules import Rules

        try:
            memory = TypedMemory(kernel.bridge)
            found = list(TaskReader(memory).processes())
            last = memory.number(memory.symbol("cap_last_cap"), 4)
        except (LookupError, HybridBridgeError, UnreadableVirtual) as error:
            yield Row((Unavailable(str(error)),) * len(self.columns))
            return
        found = _as_shown(kernel, found)
        processes = [process for process in found if not isinstance(process, str)]
        rules = Rules(processes, memory.symbol("init_cred"), last)
        by_task = {process.task: process for process in processes}
        for process in found:
            if isinstance(process, str):
                yield Row((Unavailable(process),) * len(self.columns))
                continue
            verdict = "; ".join(rules.suspicions(process)) or _NOTHING_WRONG
            if verdict != _NOTHING_WRONG or not options["suspicious"]:
                yield Row((*_cells(process, by_task.get(process.parent), last), verdict))


def _as_shown(kernel: GuestKernel, found: list[Process | str]) -> list[Process | str]:
    """With the names of the kernel's threads as /proc shows them."""
    threads = [one for one in found if not isinstance(one, str) and one.is_kernel_thread]
    names = names_of_kernel_threads(kernel.files, {thread.pid: thread.name for thread in threads})
    return [
        one._replace(name=names[one.pid]) if not isinstance(one, str) and one.is_kernel_thread else one
        for one in found
    ]


def _cells(process: Process, parent: Process | None, last: int) -> tuple[Cell, ...]:
    from hybridbridge_vol.tools.process_credentials.values import NAMESPACES, capability_names

    cred = process.real
    others = ""
    if parent is not None and any(process.namespaces[:-1]):  # a process that ended has left its own
        pairs = zip(NAMESPACES, process.namespaces, parent.namespaces, strict=True)
        others = ",".join(name for name, own, its in pairs if own and its and own != its)
    return (
        process.pid, process.ppid, process.name, cred.uid, cred.euid, cred.suid, cred.gid, cred.egid,
        process.login_uid,
        capability_names(cred.effective, last) or None,
        capability_names(cred.permitted, last) if cred.permitted != cred.effective else None,
        process.seccomp, "yes" if process.no_new_privileges else None, others or None, cred.vaddr,
    )  # fmt: skip


TOOL = ProcessCredentials()
