"""Reading the credentials of all processes: a typed walk of the kernel's list of tasks.

Sources: include/linux/cred.h, include/linux/sched.h, include/linux/nsproxy.h (Linux 5.10 to 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.list_ends import Broken
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.tools.process_credentials.values import NAMESPACES, SECCOMP, Credentials, Process

_PF_KTHREAD = 0x200000
_S_ISUID = 0o4000
_NO_NEW_PRIVS = 1
"""Of `task_struct.atomic_flags` (PFA_NO_NEW_PRIVS is bit 0)."""
_UNSET = 0xFFFFFFFF
_TO_THREAD_KEYRING = 1
"""KEY_REQKEY_DEFL_THREAD_KEYRING, which prepare_kernel_cred() sets (kernel/cred.c)."""
_FIELDS = {
    "uts": "uts_ns", "ipc": "ipc_ns", "mnt": "mnt_ns", "pid": "pid_ns_for_children", "net": "net_ns",
    "cgroup": "cgroup_ns", "time": "time_ns",
}  # fmt: skip
"""Of struct nsproxy."""


class TaskReader:
    """The processes of one snapshot."""

    def __init__(self, memory: TypedMemory) -> None:
        self._memory = memory
        self._has_nsproxy = {name: memory.types.has("nsproxy", field) for name, field in _FIELDS.items()}

    def processes(self) -> Iterator[Process | str]:
        """Each process, or why one, or the rest of the list, cannot be read. LookupError if the kernel's
        types lack a field."""
        memory = self._memory
        head = memory.at(memory.symbol("init_task"), "task_struct", "tasks")
        try:
            for task in memory.list(head, "task_struct", "tasks"):
                try:
                    yield self._process(task)
                except UnreadableVirtual as error:
                    yield f"task_struct at {task:#x}: {error}"
        except Broken as error:
            yield f"the list of tasks: {error}"

    def _process(self, task: int) -> Process:
        memory = self._memory
        parent = memory.get(task, "task_struct", "real_parent")
        real = memory.get(task, "task_struct", "real_cred")
        login_uid = _UNSET
        if memory.types.has("task_struct", "loginuid"):
            login_uid = memory.number(memory.at(task, "task_struct", "loginuid"), 4)
        mode = 0
        if memory.types.has("task_struct", "seccomp"):
            mode = memory.get(task, "task_struct", "seccomp.mode")
        return Process(
            task=task,
            pid=memory.get(task, "task_struct", "tgid"),
            ppid=memory.get(parent, "task_struct", "tgid") if parent else 0,
            parent=parent,
            name=memory.name(task, "task_struct", "comm"),
            is_kernel_thread=bool(memory.get(task, "task_struct", "flags") & _PF_KTHREAD),
            is_setuid_root=self._is_setuid_root(task),
            login_uid=None if login_uid == _UNSET else login_uid,
            real=self.credentials(real),
            subjective=memory.get(task, "task_struct", "cred"),
            seccomp=SECCOMP[mode] if mode < len(SECCOMP) else str(mode),
            no_new_privileges=bool(memory.get(task, "task_struct", "atomic_flags") & _NO_NEW_PRIVS),
            namespaces=self._namespaces(task, real),
        )

    def credentials(self, vaddr: int) -> Credentials:
        """A `struct cred`; LookupError, UnreadableVirtual."""
        memory = self._memory

        def number(field: str, size: int) -> int:
            return memory.number(memory.at(vaddr, "cred", field), size)

        user = memory.get(vaddr, "cred", "user")
        user_uid: int | None
        try:
            user_uid = memory.number(memory.at(user, "user_struct", "uid"), 4)
        except UnreadableVirtual:
            user_uid = None
        keys = memory.types.has("cred", "jit_keyring")
        return Credentials(
            vaddr=vaddr,
            uid=number("uid", 4),
            gid=number("gid", 4),
            suid=number("suid", 4),
            euid=number("euid", 4),
            egid=number("egid", 4),
            permitted=number("cap_permitted", 8),
            effective=number("cap_effective", 8),
            ambient=number("cap_ambient", 8),
            inheritable=number("cap_inheritable", 8),
            user_uid=user_uid,
            prepared_for_kernel=keys and number("jit_keyring", 1) == _TO_THREAD_KEYRING,
        )

    def _is_setuid_root(self, task: int) -> bool:
        memory = self._memory
        try:
            space = memory.get(task, "task_struct", "mm")
            file = memory.get(space, "mm_struct", "exe_file") if space else 0
            inode = memory.get(file, "file", "f_inode") if file else 0
            if not inode:
                return False
            owner = memory.number(memory.at(inode, "inode", "i_uid"), 4)
            return not owner and bool(memory.get(inode, "inode", "i_mode") & _S_ISUID)
        except UnreadableVirtual:
            return False

    def _namespaces(self, task: int, cred: int) -> tuple[int, ...]:
        memory = self._memory
        proxy = memory.get(task, "task_struct", "nsproxy")
        found = [
            memory.get(proxy, "nsproxy", field) if proxy and self._has_nsproxy[name] else 0
            for name, field in _FIELDS.items()
        ]
        return (*found, memory.get(cred, "cred", "user_ns"))


assert NAMESPACES == (*_FIELDS, "user")
