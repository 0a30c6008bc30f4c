"""The proxy task's view of the snapshot: it has the namespaces, the pid and the credentials of its init."""

from __future__ import annotations

from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.text.proxy_task import NO_FIELD, ProxyTask
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory

_NAMESPACES = ("init_uts_ns", "init_ipc_ns", "init_pid_ns", "init_net", "init_time_ns", "init_cgroup_ns")
"""What an nsproxy points to, except the mount namespace: the proxy task keeps its own mounts."""
_NSPROXY_WORDS = 9  # struct nsproxy, include/linux/nsproxy.h: a counter and eight pointers
_NUMBER_BEFORE_NS = 8  # struct upid, include/linux/pid.h: nr, ns
_INIT_PID = 1


def enter_snapshot(
    machine: Machine, proxy_task: ProxyTask, sides: Sides, snapshot: VirtualMemory
) -> dict[int, str]:
    """Make the proxy task see the snapshot as the snapshot's init does.

    Returns where its nsproxy points to namespaces (virtual addresses), and the symbol of each.
    UnreadableVirtual if the image does not hold what must be read.
    """
    namespaces = _enter_namespaces(machine, proxy_task, sides)
    number_vaddr = proxy_task.pid + proxy_task.pid_namespace - _NUMBER_BEFORE_NS
    machine.write_u64(proxy_task.pid + proxy_task.pid_namespace, sides.snapshot("init_pid_ns"))
    # whatever number the proxy task had: /proc/self, and with it /proc/net and /proc/mounts, is the
    # snapshot's init
    machine.write(number_vaddr, _INIT_PID.to_bytes(4, "little"))
    machine.write_u64(proxy_task.cred + proxy_task.cred_user_namespace, sides.snapshot("init_user_ns"))
    security = proxy_task.cred_security
    if "init_cred" in sides.symbols and security != NO_FIELD:
        # the snapshot's security modules look into the proxy task's credentials: they find what its init has
        machine.write_u64(
            proxy_task.cred + security, snapshot.read_u64(sides.snapshot("init_cred") + security)
        )
    return namespaces


def _enter_namespaces(machine: Machine, proxy_task: ProxyTask, sides: Sides) -> dict[int, str]:
    names = {sides.home(name): name for name in _NAMESPACES if name in sides.symbols}
    # the proxy task shares init_nsproxy with every kernel thread of the trusted kernel: none of them runs now
    nsproxy = machine.read_u64(proxy_task.task + proxy_task.task_nsproxy)
    found = {}
    for slot in range(nsproxy, nsproxy + 8 * _NSPROXY_WORDS, 8):
        name = names.get(machine.read_u64(slot))
        if name:
            machine.write_u64(slot, sides.snapshot(name))
            found[slot] = name
    return found
