"""Handlers of terminals, interrupts, programs' formats, and security modules.

Sources: drivers/tty/tty_ldisc.c, drivers/tty/tty_io.c, kernel/irq/handle.c, kernel/softirq.c, fs/exec.c,
security/security.c, include/linux/lsm_hooks.h (Linux 5.10 to 7.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, Lost, Operations, each

MAX_TTYS = 1 << 12
MAX_INTERRUPTS = 1 << 16
_SOFTIRQS = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU")
"""include/linux/interrupt.h."""
NOT_REGISTERED = "the terminal's line discipline is none of the registered ones"
OF_NO_MODULE = "no security module has registered it"
REPLACED = "not what the security module has registered is called"


class Devices:
    """Of one snapshot. `descriptor_of` gives the address of an interrupt's `struct irq_desc`, 0 if there is
    none."""

    def __init__(self, memory: TypedMemory, descriptor_of: Callable[[int], int]) -> None:
        self._memory = memory
        self._descriptor_of = descriptor_of

    # --- terminals ----------------------------------------------------------------------------------------

    def terminals(self) -> Iterator[Found]:
        """The line disciplines, the terminals' drivers, and what each open terminal uses."""
        memory = self._memory
        table = memory.symbol("tty_ldiscs")
        registered: set[int] = set()

        def discipline(number: int) -> Iterator[Found]:
            operations = memory.word(table + 8 * number)
            if operations:
                registered.add(operations)
                what = f"line discipline {number}"
                yield Operations(what, "tty_ldisc_ops", operations, table + 8 * number)

        def terminal(tty: int) -> Iterator[Found]:
            name = memory.name(tty, "tty_struct", "name")
            yield Operations(f"terminal {name}", "tty_operations", memory.get(tty, "tty_struct", "ops"), tty)
            used = memory.get(tty, "tty_struct", "ldisc")
            operations = memory.get(used, "tty_ldisc", "ops") if used else 0
            if operations:
                suspicion = "" if operations in registered else NOT_REGISTERED
                what = f"line discipline of {name}"
                yield Operations(what, "tty_ldisc_ops", operations, used, suspicion)

        def driver(vaddr: int) -> Iterator[Found]:
            name = memory.text(memory.get(vaddr, "tty_driver", "driver_name"))
            what = f"terminals of {name or memory.text(memory.get(vaddr, 'tty_driver', 'name'))}"
            yield Operations(what, "tty_operations", memory.get(vaddr, "tty_driver", "ops"), vaddr)
            ttys = memory.get(vaddr, "tty_driver", "ttys")
            count = min(memory.get(vaddr, "tty_driver", "num"), MAX_TTYS)
            if ttys:
                yield from each((tty for tty in memory.pointers(ttys, count) if tty), terminal)

        yield from each(range(memory.size_of_symbol("tty_ldiscs") // 8), discipline)
        drivers = memory.list(memory.ring("tty_drivers"), "tty_driver", "tty_drivers")
        yield from each(drivers, driver)

    # --- interrupts ---------------------------------------------------------------------------------------

    def interrupts(self) -> Iterator[Found]:
        """The handlers of each interrupt, and of the deferred ones."""
        memory = self._memory
        variable = next(name for name in ("nr_irqs", "total_nr_irqs") if memory.has_symbol(name))
        count = min(memory.number(memory.symbol(variable), 4), MAX_INTERRUPTS)
        following = memory.types.offset("irqaction", "next")

        def interrupt(number: int) -> Iterator[Found]:
            for action in memory.chain(memory.get(descriptors[number], "irq_desc", "action"), following):
                name = memory.text(memory.get(action, "irqaction", "name"))
                for field in ("handler", "thread_fn"):
                    function = memory.get(action, "irqaction", field)
                    if function:
                        yield Hook(f"interrupt {number} {name} ({field})", function, action)

        descriptors: dict[int, int] = {}
        for number in range(count):
            try:
                descriptors[number] = self._descriptor_of(number)
            except CallRolledBack as error:
                # a forged tree: each further call could take as long
                yield Lost(f"interrupts from {number} on: {error.reason}")
                break
        yield from each((number for number, found in descriptors.items() if found), interrupt)
        vector, size = memory.symbol("softirq_vec"), memory.types.size("softirq_action")

        def deferred(number: int) -> Iterator[Found]:
            function = memory.get(vector + number * size, "softirq_action", "action")
            if function:
                yield Hook(f"deferred interrupt {_SOFTIRQS[number]}", function, vector + number * size)

        yield from each(range(len(_SOFTIRQS)), deferred)

    # --- programs and security ----------------------------------------------------------------------------

    def formats(self) -> Iterator[Found]:
        """The formats of programs that the kernel can start."""
        memory = self._memory

        def one(vaddr: int) -> Iterator[Found]:
            yield Operations("format of programs", "linux_binfmt", vaddr, vaddr)

        return each(memory.list(memory.ring("formats"), "linux_binfmt", "lh"), one)

    def security(self) -> Iterator[Found]:
        """The functions of security modules, by the name of the hook."""
        memory = self._memory
        if memory.has_symbol("security_hook_heads"):
            base = memory.symbol("security_hook_heads")
            for field in memory.types.members("security_hook_heads"):
                heads = memory.hlist(base + field.offset, "security_hook_list", "list")
                yield from each(heads, partial(self._security, field.name))
            return
        base, size = memory.symbol("static_calls_table"), memory.types.size("lsm_static_call")
        for field in memory.types.members("lsm_static_calls_table"):
            first = base + field.offset
            calls = range(first, first + memory.types.bytes_of(field.type), size)
            yield from each(calls, partial(self._called, field.name))

    def _called(self, name: str, call: int) -> Iterator[Found]:
        """What one of the static calls of a hook leads to; that, and not what the module has in its list, is
        called."""
        memory = self._memory
        function = memory.get(memory.get(call, "lsm_static_call", "key"), "static_call_key", "func")
        entry = memory.get(call, "lsm_static_call", "hl")
        if not entry:
            if function:
                yield Hook(f"security hook {name}", function, call, OF_NO_MODULE)
            return
        listed = memory.word(memory.at(entry, "security_hook_list", "hook"))
        yield Hook(f"security hook {name}", function, entry, "" if function == listed else REPLACED)

    def _security(self, name: str, entry: int) -> Iterator[Found]:
        at = self._memory.at(entry, "security_hook_list", "hook")
        yield Hook(f"security hook {name}", self._memory.word(at), entry)
