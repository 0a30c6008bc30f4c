"""What cannot come about by the kernel's own means of giving rights: fork(2), execve(2), setuid(2) and its
like (kernel/cred.c, kernel/sys.c, security/commoncap.c; Linux 5.10 to 7.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from hybridbridge_vol.tools.process_credentials.values import Process

_FIRST_PROCESS = 1


class Rules:
    """Over all processes of one snapshot. `init_cred` is the address of the kernel's first credentials,
    `last_capability` the highest that the kernel has."""

    def __init__(
        self,
        processes: Sequence[Process],
        init_cred: int,
        last_capability: int,
    ) -> None:
        self._by_task = {process.task: process for process in processes}
        self._holders: dict[int, list[Process]] = defaultdict(list)
        for process in processes:
            self._holders[process.real.vaddr].append(process)
        self._init_cred = init_cred
        first = next((process for process in processes if process.pid == _FIRST_PROCESS), None)
        self._first_namespaces = first.namespaces if first is not None else ()
        self._known = (1 << last_capability + 1) - 1

    def suspicions(self, process: Process) -> Iterator[str]:
        """What is wrong with a process's credentials, each in a phrase."""
        yield from self._shared(process)
        if not process.is_kernel_thread:
            yield from self._user_ids(process)
            yield from self._capabilities(process)
            yield from self._made_for_kernel(process)
            yield from self._without_lineage(process)

    def _shared(self, process: Process) -> Iterator[str]:
        """Each process has credentials of its own (copy_creds): only threads share theirs."""
        cred = process.real
        others = [other for other in self._holders[cred.vaddr] if other.pid != process.pid]
        if others:
            names = ", ".join(f"{other.pid} {other.name}" for other in others[:3])
            yield f"its credentials are also those of {names}"
        if process.subjective != cred.vaddr:
            others = [other for other in self._holders[process.subjective] if other.pid != process.pid]
            if others and not process.is_kernel_thread:
                yield f"it acts with the credentials of {others[0].pid} {others[0].name}"
        if cred.vaddr == self._init_cred and not process.is_kernel_thread:
            yield "its credentials are the kernel's own (init_cred)"

    def _user_ids(self, process: Process) -> Iterator[str]:
        cred = process.real
        if cred.user_uid is not None and cred.user_uid != cred.uid:
            # set_user() changes both
            yield f"its user id is {cred.uid}, and its resources are counted for user {cred.user_uid}"
        if cred.euid == 0 and cred.uid and cred.suid:
            # execve(2) and seteuid(2) leave it in one of the others
            yield "its effective user id is 0, and neither its real nor its saved one"

    def _capabilities(self, process: Process) -> Iterator[str]:
        cred = process.real
        has_all = cred.effective & self._known == self._known and not cred.ambient
        in_first = process.namespaces[-1:] == self._first_namespaces[-1:]
        if has_all and cred.uid and cred.euid and cred.suid and in_first:
            # setuid(2) takes the effective ones from who is no longer root; services are given ambient ones
            yield f"it has all capabilities, and its user id is {cred.uid}"
        if cred.effective & ~cred.permitted & self._known:
            yield "it has effective capabilities that are not permitted"
        if cred.ambient & ~(cred.permitted & cred.inheritable) & self._known:
            yield "it has ambient capabilities that are not permitted and inheritable"

    def _made_for_kernel(self, process: Process) -> Iterator[str]:
        parent = self._by_task.get(process.parent)
        by_kernel = parent is not None and (parent.is_kernel_thread or parent.real.prepared_for_kernel)
        if process.real.prepared_for_kernel and not by_kernel and process.pid != _FIRST_PROCESS:
            yield "its credentials were made for the kernel (prepare_kernel_cred)"

    def _without_lineage(self, process: Process) -> Iterator[str]:
        """Root comes from a parent that is root, or from a program with the set-user-ID bit."""
        cred, parent = process.real, self._by_task.get(process.parent)
        if parent is None or parent.is_kernel_thread or process.is_setuid_root or parent.is_setuid_root:
            return
        if 0 not in (cred.uid, cred.euid) or 0 in (parent.real.uid, parent.real.euid, parent.real.suid):
            return
        yield f"it is root, and its parent {parent.pid} {parent.name} is user {parent.real.uid}"
