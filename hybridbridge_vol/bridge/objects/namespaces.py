"""The proxy task inside the namespaces of one task of the snapshot, as `nsenter --target PID --all` would put
it there.

The proxy task takes over the pointers of that task's nsproxy (but for the mounts: its own /proc and /sys must
stay), the user namespace of its credentials and its `struct pid`, so that `/proc/self` is that task. This is
done before /proc and /sys are mounted, because a mount keeps the namespaces of the task that made it. Where
these pointers are is found by value in the proxy task's own `task_struct`, whose kernel is the same build.
"""

from __future__ import annotations

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.text.proxy_task import task_size
from hybridbridge_vol.errors import AttachError, CallRolledBack, OptionError
from hybridbridge_vol.machine.words import read_words
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.units import U64

_SIGNAL_SIZE = 2048
"""Bytes of a signal_struct in which pointers are looked for."""


def enter(caller: Caller, pid: int) -> None:
    """Put the proxy task into the namespaces of the task that the snapshot's first pid namespace calls `pid`.

    Raises OptionError if there is no such task or it has left its namespaces, AttachError if the image does
    not hold what is needed.
    """
    bridge = caller.bridge
    try:
        _ProxyPointers(bridge).follow(_find_task(caller, pid), pid)
    except UnreadableVirtual as error:
        raise AttachError(
            f"the namespaces of process {pid} are not in the image (at {error.vaddr:#x})"
        ) from None


def _find_task(caller: Caller, pid: int) -> int:
    """The task_struct's virtual address, as the snapshot's kernel finds it."""
    bridge = caller.bridge
    try:
        # looks in the proxy task's pid namespace, which is the snapshot's first by now
        find = bridge.snapshot("find_task_by_vpid")
        task = caller.call(find, pid & 0xFFFF_FFFF, label="find_task_by_vpid") & U64
    except KeyError as error:
        raise AttachError(
            f"{bridge.kernel.name}: this kernel has no symbol {error}; --ns-of cannot be used"
        ) from None
    except CallRolledBack as error:
        raise OptionError(f"--ns-of {pid}: the process cannot be looked up: {error.reason}") from None
    if not task or pid <= 0:
        raise OptionError(f"--ns-of {pid}: no such process in the image")
    return task


class _ProxyPointers:
    """The pointers of the proxy task's task_struct that decide which namespaces it is in."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._machine, self._proxy_task = bridge.machine, bridge.prepared.proxy_task
        self._snapshot = bridge.virtual_memory
        task, pid = self._proxy_task.task, self._proxy_task.pid
        words = read_words(self._machine, task, task_size(bridge.kernel.symbols))
        self._pid_offset = self._offset_of(words, pid, "pid")
        self._cred_offset = self._offset_of(words, self._proxy_task.cred, "credentials")
        self._pid_vaddrs = (task + self._pid_offset, self._group_pid(words))

    def _group_pid(self, words: list[int]) -> int:
        """Where the proxy task's signal_struct has the pid of its group: among what the task points to, that
        alone has its pid and the list of its threads, which leads into it."""
        task = range(self._proxy_task.task, self._proxy_task.task + 8 * len(words))
        pid = self._proxy_task.pid
        for vaddr in dict.fromkeys(words):
            if vaddr in self._bridge.boot.layout and vaddr not in task:
                inner = read_words(self._machine, vaddr, _SIGNAL_SIZE)
                if pid in inner and any(word in task for word in inner):
                    return vaddr + 8 * inner.index(pid)
        raise self._unknown("group's pid")

    def follow(self, task: int, pid: int) -> None:
        """Let them point where those of `task`, of the snapshot, point."""
        proxy_task, machine = self._proxy_task, self._machine
        theirs = self._snapshot.read_u64(self._checked(task) + proxy_task.task_nsproxy)
        if not theirs:
            raise OptionError(f"--ns-of {pid}: the process has ended (a zombie) and left its namespaces")
        ours = machine.read_u64(proxy_task.task + proxy_task.task_nsproxy)
        new = {vaddr: self._followed(theirs + vaddr - ours) for vaddr in self._bridge.namespaces}
        cred = self._followed(task + self._cred_offset)
        user_namespace = self._followed(cred + proxy_task.cred_user_namespace)
        new[proxy_task.cred + proxy_task.cred_user_namespace] = user_namespace
        new |= dict.fromkeys(self._pid_vaddrs, self._followed(task + self._pid_offset))
        for vaddr, value in new.items():
            machine.write_u64(vaddr, value)

    def _followed(self, vaddr: int) -> int:
        return self._checked(self._snapshot.read_u64(self._checked(vaddr)))

    def _checked(self, vaddr: int) -> int:
        """The address, if it may be the snapshot's: an image must not make the proxy task use anything of the
        trusted side."""
        if not self._bridge.may_be_snapshot(vaddr):
            raise AttachError(f"a pointer to namespaces leads out of the image (to {vaddr:#x})")
        return vaddr

    def _offset_of(self, words: list[int], value: int, what: str) -> int:
        if value not in words:
            raise self._unknown(what)
        return words.index(value) * 8

    def _unknown(self, what: str) -> AttachError:
        return AttachError(
            f"{self._bridge.kernel.name}: the proxy task's {what} is not where it should be; "
            "--ns-of cannot be used"
        )
