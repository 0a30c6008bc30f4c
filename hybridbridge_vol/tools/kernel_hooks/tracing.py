"""Handlers of the kernel's tracers: ftrace, kprobes, uprobes, tracepoints, performance events.

Sources: kernel/trace/ftrace.c, kernel/kprobes.c, kernel/events/uprobes.c, kernel/tracepoint.c,
kernel/events/core.c (Linux 5.10 to 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from hybridbridge_vol.bridge.objects.list_ends import BrokenList
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, Lost, each
from hybridbridge_vol.units import U64

_ENABLED = 1
"""FTRACE_OPS_FL_ENABLED."""
_IN_USE = 1 << 31
"""FTRACE_FL_ENABLED: the function's call of the tracer is active."""
_KPROBE_BUCKETS = 64
"""KPROBE_TABLE_SIZE."""
_SHOWN = 3
_LOAD_OPS = bytes.fromhex("488b15")
"""`mov rdx, [rip + X]`, at the symbol `ftrace_caller_op_ptr`."""
_ENDBR_SIZE = 4
_MAX_HASH_BITS = 16
MAX_RECORDS = 1 << 20
"""Functions that can be traced: a kernel with all its modules has some 300,000."""
_CPU_CONTEXTS = ("perf_cpu_context", "cpu_context")
"""Since 6.2 one per CPU, before one per CPU and unit."""
_MAX_PROBES = 64
"""Of one tracepoint."""


class Tracing:
    """The tracers of one snapshot."""

    def __init__(self, memory: TypedMemory, names: KernelNames) -> None:
        self._memory = memory
        self._names = names
        self._claimed: set[int] = set()
        """Functions that some ftrace_ops of the list traces."""
        self._traces_all = False

    # --- ftrace -------------------------------------------------------------------------------------------

    def ftrace(self) -> Iterator[Found]:
        """The ftrace_ops on the kernel's list; and functions that call the tracer for none of them."""
        memory = self._memory
        first, end = memory.word(memory.symbol("ftrace_ops_list")), memory.symbol("ftrace_list_end")
        following = memory.types.offset("ftrace_ops", "next")

        def listed() -> Iterator[int]:
            for ops in memory.chain(first, following):
                if ops == end:
                    return
                yield ops

        yield from each(listed(), self._ops)
        if memory.has_symbol("direct_functions"):
            entries = self._hash_entries(memory.word(memory.symbol("direct_functions")))
            yield from each(entries, self._direct)
        yield from self._unclaimed()

    def _direct(self, entry: int) -> Iterator[Found]:
        """A function that calls another one without the tracer's help (`register_ftrace_direct`), as
        trampolines of BPF programs are called."""
        ip = self._memory.get(entry, "ftrace_func_entry", "ip")
        target = self._memory.get(entry, "ftrace_func_entry", "direct")
        yield Hook(f"calls of {self._traced_name(ip)} (direct)", target, entry)

    def _ops(self, ops: int) -> Iterator[Found]:
        memory = self._memory
        if not memory.get(ops, "ftrace_ops", "flags") & _ENABLED:
            return
        traced = list(self._traced(ops))
        self._claimed.update(traced)
        self._traces_all = self._traces_all or not traced
        shown = ", ".join(self._traced_name(vaddr) for vaddr in sorted(traced)[:_SHOWN])
        more = f" and {len(traced) - _SHOWN} more" if len(traced) > _SHOWN else ""
        what = f"calls of {shown}{more}" if traced else "calls of every function"
        function = memory.get(ops, "ftrace_ops", "func")
        if memory.types.has("ftrace_ops", "saved_func"):
            function = memory.get(ops, "ftrace_ops", "saved_func") or function
        yield Hook(what, function, ops)

    def _traced(self, ops: int) -> Iterator[int]:
        memory = self._memory
        table = memory.get(ops, "ftrace_ops", "func_hash")
        table = memory.get(table, "ftrace_ops_hash", "filter_hash") if table else 0
        for entry in self._hash_entries(table):
            yield memory.get(entry, "ftrace_func_entry", "ip")

    def _hash_entries(self, table: int) -> Iterator[int]:
        """The entries of a `struct ftrace_hash`; none for a null pointer."""
        memory = self._memory
        if not table or not memory.get(table, "ftrace_hash", "count"):
            return
        bits = min(memory.get(table, "ftrace_hash", "size_bits"), _MAX_HASH_BITS)
        buckets = memory.get(table, "ftrace_hash", "buckets")
        for number in range(1 << bits):
            yield from memory.hlist(buckets + 8 * number, "ftrace_func_entry", "hlist")

    def _traced_name(self, ip: int) -> str:
        """The function whose call of the tracer is at an address: its first instruction, or behind
        `endbr64`."""
        return self._names.function(ip - _ENDBR_SIZE) or self._names.place(ip)

    def _unclaimed(self) -> Iterator[Found]:
        if self._traces_all:
            return
        for record, ip in self._enabled_records():
            if ip not in self._claimed:
                try:
                    target = ip + 5 + self._memory.number(ip + 1, 4, signed=True) & U64
                    ops = self._ops_of_trampoline(target)
                    function = self._memory.get(ops, "ftrace_ops", "func") if ops else target
                except UnreadableVirtual as error:
                    yield Lost(str(error))
                    continue
                yield Hook(
                    f"calls of {self._traced_name(ip)}", function, ops or record,
                    "the function is traced, and no ftrace_ops on the kernel's list traces it",
                )  # fmt: skip

    def _ops_of_trampoline(self, vaddr: int) -> int:
        """The ftrace_ops that a trampoline is for: a copy of one of the kernel's templates with a pointer to
        them (arch/x86/kernel/ftrace.c, `create_trampoline`); 0 if it is none. UnreadableVirtual."""
        memory = self._memory
        for template in ("ftrace_caller", "ftrace_regs_caller"):
            if not memory.has_symbol(f"{template}_op_ptr"):
                continue
            at = vaddr + memory.symbol(f"{template}_op_ptr") - memory.symbol(template) & U64
            if memory.read(at, len(_LOAD_OPS)) == _LOAD_OPS:
                distance = memory.number(at + len(_LOAD_OPS), 4, signed=True)
                return memory.word(at + len(_LOAD_OPS) + 4 + distance & U64)
        return 0

    def _enabled_records(self) -> Iterator[tuple[int, int]]:
        """The address and the function of each dyn_ftrace that is counted as in use."""
        memory, types = self._memory, self._memory.types
        size, flags_at = types.size("dyn_ftrace"), types.offset("dyn_ftrace", "flags")
        count = 0
        following = types.offset("ftrace_page", "next")
        for page in memory.chain(memory.word(memory.symbol("ftrace_pages_start")), following):
            records = memory.get(page, "ftrace_page", "records")
            used = memory.get(page, "ftrace_page", "index")
            count += used
            if count > MAX_RECORDS:
                raise BrokenList(f"more than {MAX_RECORDS} functions can be traced")
            data = memory.read(records, used * size)
            for at in range(0, len(data), size):
                flags = int.from_bytes(data[at + flags_at : at + flags_at + 8], "little")
                if flags & _IN_USE:
                    yield records + at, memory.get(records + at, "dyn_ftrace", "ip")

    # --- kprobes ------------------------------------------------------------------------------------------

    def kprobes(self) -> Iterator[Found]:
        """The table of kprobes, with those that share an address, and the handlers of kretprobes."""
        memory = self._memory
        table = memory.symbol("kprobe_table")
        for number in range(_KPROBE_BUCKETS):
            yield from each(memory.hlist(table + 8 * number, "kprobe", "hlist"), self._kprobe)

    def _kprobe(self, probe: int) -> Iterator[Found]:
        memory = self._memory
        handler = memory.get(probe, "kprobe", "pre_handler")
        if handler == memory.symbol("aggr_pre_handler"):
            yield from each(memory.list(memory.at(probe, "kprobe", "list"), "kprobe", "list"), self._handlers)
        else:
            yield from self._handlers(probe)

    def _handlers(self, probe: int) -> Iterator[Found]:
        memory = self._memory
        where = self._names.place(memory.get(probe, "kprobe", "addr"))
        before = memory.get(probe, "kprobe", "pre_handler")
        if before and self._names.function(before) == "pre_handler_kretprobe":
            for field in ("handler", "entry_handler"):
                yield from _if_set(
                    f"{'return from' if field == 'handler' else 'entry of'} {where} (kretprobe)",
                    memory.get(probe, "kretprobe", field),
                    probe,
                )
            return
        after = memory.get(probe, "kprobe", "post_handler")
        yield from _if_set(f"before {where} (kprobe)", before, probe)
        yield from _if_set(f"after {where} (kprobe)", after, probe)
        if not before and not after:
            yield Hook(f"{where} (kprobe without a handler)", 0, probe)

    # --- uprobes ------------------------------------------------------------------------------------------

    def uprobes(self) -> Iterator[Found]:
        """The consumers of each probe in a program's file."""
        memory = self._memory
        return each(memory.tree(memory.symbol("uprobes_tree"), "uprobe", "rb_node"), self._uprobe)

    def _uprobe(self, probe: int) -> Iterator[Found]:
        memory = self._memory
        inode = memory.get(probe, "uprobe", "inode")
        number = memory.get(inode, "inode", "i_ino")
        where = f"inode {number} at {memory.get(probe, 'uprobe', 'offset'):#x} (uprobe)"
        if memory.types.has("uprobe_consumer", "cons_node"):
            consumers = memory.list(memory.at(probe, "uprobe", "consumers"), "uprobe_consumer", "cons_node")
        else:
            first = memory.get(probe, "uprobe", "consumers")
            consumers = memory.chain(first, memory.types.offset("uprobe_consumer", "next"))
        for consumer in consumers:
            for field in ("handler", "ret_handler", "filter"):
                yield from _if_set(
                    f"{field} of {where}", memory.get(consumer, "uprobe_consumer", field), consumer
                )

    # --- tracepoints --------------------------------------------------------------------------------------

    def tracepoints(self) -> Iterator[Found]:
        """The functions of each tracepoint of the kernel and of its modules."""
        memory = self._memory
        start = memory.symbol("__start___tracepoints_ptrs")
        end = memory.symbol("__stop___tracepoints_ptrs")
        yield from each(self._relative(start, (end - start) // 4), self._tracepoint)
        modules = memory.list(memory.ring("modules"), "module", "list")
        yield from each(modules, self._of_module)

    def _of_module(self, module: int) -> Iterator[Found]:
        memory = self._memory
        count = memory.get(module, "module", "num_tracepoints")
        first = memory.get(module, "module", "tracepoints_ptrs")
        return each(self._relative(first, min(count, MAX_RECORDS)), self._tracepoint)

    def _relative(self, first: int, count: int) -> Iterator[int]:
        """What a table of 32-bit offsets, each from itself, leads to."""
        for at in range(first, first + 4 * count, 4):
            yield at + self._memory.number(at, 4, signed=True) & U64

    def _tracepoint(self, tracepoint: int) -> Iterator[Found]:
        memory = self._memory
        functions = memory.get(tracepoint, "tracepoint", "funcs")
        if not functions:
            return
        name = memory.text(memory.get(tracepoint, "tracepoint", "name"))
        size = memory.types.size("tracepoint_func")
        for number in range(_MAX_PROBES):
            entry = functions + number * size
            function = memory.get(entry, "tracepoint_func", "func")
            if not function:
                return
            yield Hook(f"tracepoint {name}", function, entry)

    # --- performance events -------------------------------------------------------------------------------

    def perf_events(self) -> Iterator[Found]:
        """The events of each CPU and of each process: counters, breakpoints."""
        memory = self._memory
        if memory.types.has("pmu", "pmu_cpu_context"):
            contexts = list(self._contexts_of_units())
        else:
            variable = next(filter(memory.has_symbol, _CPU_CONTEXTS), _CPU_CONTEXTS[0])
            contexts = [
                (f"on CPU {cpu}", memory.at(context, "perf_cpu_context", "ctx"))
                for cpu, context in memory.per_cpu(variable)
            ]
        for where, context in contexts:
            yield from self._events(where, context)
        yield from each(
            memory.list(
                memory.at(memory.symbol("init_task"), "task_struct", "tasks"), "task_struct", "tasks"
            ),
            self._of_task,
        )

    def _contexts_of_units(self) -> Iterator[tuple[str, int]]:
        memory = self._memory
        seen = set()
        for unit in memory.list(memory.ring("pmus"), "pmu", "entry"):
            context = memory.get(unit, "pmu", "pmu_cpu_context")
            for cpu in memory.cpus() if context else ():
                vaddr = context + memory.per_cpu_area(cpu) & U64
                if vaddr not in seen:
                    seen.add(vaddr)
                    yield f"on CPU {cpu}", memory.at(vaddr, "perf_cpu_context", "ctx")

    def _of_task(self, task: int) -> Iterator[Found]:
        memory = self._memory
        field = memory.at(task, "task_struct", "perf_event_ctxp")
        count = memory.types.bytes_of(memory.types.field("task_struct", "perf_event_ctxp").type) // 8
        pid = memory.get(task, "task_struct", "pid")
        for context in memory.pointers(field, max(count, 1)):
            if context:
                yield from self._events(f"of process {pid}", context)

    def _events(self, where: str, context: int) -> Iterator[Found]:
        memory = self._memory

        def one(event: int) -> Iterator[Found]:
            kind = memory.get(event, "perf_event", "attr.type")
            handler = memory.get(event, "perf_event", "overflow_handler")
            yield from _if_set(f"event of type {kind} {where}", handler, event)

        head = memory.at(context, "perf_event_context", "event_list")
        return each(islice(memory.list(head, "perf_event", "event_entry"), MAX_RECORDS), one)


def _if_set(what: str, function: int, vaddr: int) -> Iterator[Hook]:
    if function:
        yield Hook(what, function, vaddr)
