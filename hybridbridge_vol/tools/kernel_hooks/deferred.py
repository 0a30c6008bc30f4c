"""What runs later: timers, work items, kernel threads.

Sources: kernel/time/timer.c, kernel/time/hrtimer.c, kernel/workqueue.c, kernel/kthread.c (Linux 5.10 to 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, each

_PF_KTHREAD = 0x200000
"""include/linux/sched.h."""
_KTHREADD = 2
_BUCKETS = 64
"""UNBOUND_POOL_HASH_ORDER is 6."""


class Deferred:
    """Of one snapshot."""

    def __init__(self, memory: TypedMemory, names: KernelNames) -> None:
        self._memory = memory
        self._names = names

    # --- timers -------------------------------------------------------------------------------------------

    def timers(self) -> Iterator[Found]:
        """The timers that are armed, of both kinds; of a delayed work item its function."""
        memory, types = self._memory, self._memory.types
        size, vectors = types.size("timer_base"), types.offset("timer_base", "vectors")
        lists = types.count("timer_base", "vectors")
        count = max(memory.size_of_symbol("timer_bases") // size, 1)
        for cpu, bases in memory.per_cpu("timer_bases"):
            for base in range(bases, bases + count * size, size):
                for number, head in enumerate(memory.pointers(base + vectors, lists)):
                    if head:
                        at = base + vectors + 8 * number
                        heads = memory.hlist(at, "timer_list", "entry")
                        yield from each(heads, partial(self._timer, cpu))
        yield from self._high_resolution()

    def _timer(self, cpu: int, timer: int) -> Iterator[Found]:
        memory = self._memory
        function = memory.get(timer, "timer_list", "function")
        if self._names.function(function) == "delayed_work_timer_fn":
            work = timer - memory.types.offset("delayed_work", "timer")
            yield Hook(f"delayed work on CPU {cpu}", memory.get(work, "delayed_work", "work.func"), work)
            return
        yield Hook(f"timer on CPU {cpu}", function, timer)

    def _high_resolution(self) -> Iterator[Found]:
        memory, types = self._memory, self._memory.types
        clocks, clock = types.offset("hrtimer_cpu_base", "clock_base"), types.size("hrtimer_clock_base")
        count = types.count("hrtimer_cpu_base", "clock_base")
        root = types.offset("hrtimer_clock_base", "active") + _tree_offset(memory)
        node = "node.node"
        for cpu, base in memory.per_cpu("hrtimer_bases"):
            for number in range(count):
                at = base + clocks + number * clock + root

                def one(timer: int, cpu: int = cpu) -> Iterator[Found]:
                    function = memory.get(timer, "hrtimer", "function")
                    yield Hook(f"high-resolution timer on CPU {cpu}", function, timer)

                yield from each(memory.tree(at, "hrtimer", node), one)

    # --- work items ---------------------------------------------------------------------------------------

    def work(self) -> Iterator[Found]:
        """The work items that wait, and those that were being done."""
        memory = self._memory
        size = memory.types.size("worker_pool")
        count = max(memory.size_of_symbol("cpu_worker_pools") // size, 1)
        for cpu, pools in memory.per_cpu("cpu_worker_pools"):
            for number in range(min(count, 2)):
                yield from self._pool(f"on CPU {cpu}", pools + number * size)
        table = memory.symbol("unbound_pool_hash")
        for number in range(_BUCKETS):
            yield from each(
                memory.hlist(table + 8 * number, "worker_pool", "hash_node"),
                partial(self._pool, "on any CPU"),
            )

    def _pool(self, where: str, pool: int) -> Iterator[Found]:
        memory = self._memory

        def waiting(work: int) -> Iterator[Found]:
            yield Hook(f"work {where}", memory.get(work, "work_struct", "func"), work)

        def worker(vaddr: int) -> Iterator[Found]:
            function = memory.get(vaddr, "worker", "current_func")
            if function:
                yield Hook(f"work being done {where}", function, vaddr)

        yield from each(
            memory.list(memory.at(pool, "worker_pool", "worklist"), "work_struct", "entry"), waiting
        )
        yield from each(memory.list(memory.at(pool, "worker_pool", "workers"), "worker", "node"), worker)

    # --- kernel threads -----------------------------------------------------------------------------------

    def threads(self) -> Iterator[Found]:
        """The function of each kernel thread, and processes that are only marked as one."""
        memory = self._memory
        head = memory.at(memory.symbol("init_task"), "task_struct", "tasks")
        return each(memory.list(head, "task_struct", "tasks"), self._thread)

    def _thread(self, task: int) -> Iterator[Found]:
        memory = self._memory
        if not memory.get(task, "task_struct", "flags") & _PF_KTHREAD:
            return
        pid, name = memory.get(task, "task_struct", "pid"), memory.name(task, "task_struct", "comm")
        what = f"kernel thread {pid} {name}"
        if pid == _KTHREADD:
            yield Hook(what, memory.symbol("kthreadd"), task)
            return
        holder = "worker_private" if memory.types.has("task_struct", "worker_private") else "set_child_tid"
        thread = memory.get(task, "task_struct", holder)
        has_function = bool(thread >> 63)
        parent = memory.get(task, "task_struct", "real_parent")
        below_thread = bool(memory.get(parent, "task_struct", "flags") & _PF_KTHREAD)
        suspicion = ""
        if not has_function and (memory.get(task, "task_struct", "mm") or not below_thread):
            # one that was made this moment has none either, but no memory of its own
            suspicion = "it is marked as a kernel thread, and no kthread belongs to it"
        elif not below_thread:
            suspicion = "it is marked as a kernel thread, and its parent is a process"
        is_known = has_function and memory.types.has("kthread", "threadfn")
        function = memory.get(thread, "kthread", "threadfn") if is_known and not suspicion else 0
        yield Hook(what, function, task, suspicion)


def _tree_offset(memory: TypedMemory) -> int:
    """Of the red-black tree in a `struct timerqueue_head`."""
    types = memory.types
    for path in ("rb_root.rb_root", "rb_root"):
        if types.has("timerqueue_head", path):
            return types.offset("timerqueue_head", path)
    return types.offset("timerqueue_head", "head")
