"""The snapshot's processors, and what each was running."""

from __future__ import annotations

import contextlib
from functools import cached_property

from hybridbridge_vol.bridge.objects.current_task import current_of
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.tasks import PIDTYPE_PID, PIDTYPE_TGID
from hybridbridge_vol.guest.values import Running
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual

_INT_MAX = 0x7FFFFFFF


class SnapshotCpus:
    """Implements `guest.kernel.Cpus`."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy

    def running(self) -> list[Running | CallRolledBack]:
        """What each CPU was running, also one that the kernel had stopped; the ids are the kernel's own
        function's."""
        return [self._running(cpu) for cpu in self._proxy.bridge.layout.cpu_numbers]

    @cached_property
    def current_vaddrs(self) -> frozenset[int]:
        """The tasks that were running, as far as the image shows: virtual addresses of their
        `task_struct`."""
        found = set()
        for cpu in self._proxy.bridge.layout.cpu_numbers:
            with contextlib.suppress(KeyError, UnreadableVirtual):
                found.add(current_of(self._proxy.bridge, cpu))
        return frozenset(found)

    def _running(self, cpu: int) -> Running | CallRolledBack:
        label = f"getpid on CPU {cpu}"
        bridge, call = self._proxy.bridge, self._proxy.caller.call
        try:
            task = current_of(bridge, cpu)
            function, namespace = bridge.snapshot("__task_pid_nr_ns"), bridge.snapshot("init_pid_ns")
            tgid, tid = (
                call(function, task, kind, namespace, label=label) & _INT_MAX
                for kind in (PIDTYPE_TGID, PIDTYPE_PID)
            )
        except CallRolledBack as error:
            return error
        except KeyError as error:
            return CallRolledBack(label, f"this kernel has no symbol {error}")
        except UnreadableVirtual as error:
            return CallRolledBack(label, bridge.virtual_memory.why_unreadable(error.vaddr) or str(error))
        return Running(cpu, tgid, tid)
