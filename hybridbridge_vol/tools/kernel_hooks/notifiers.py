"""Chains of notifiers: what is called when a key is pressed, a module is loaded, the machine is stopped.

A chain of a kernel is found by its symbol. Sources: kernel/notifier.c, include/linux/notifier.h (Linux 5.10
to 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, Lost, each

CHAINS = {
    "atomic_notifier_head": (
        "keyboard_notifier_list", "vt_notifier_list", "panic_notifier_list", "die_chain",
        "restart_handler_list", "inet6addr_chain", "netevent_notif_chain",
        "power_off_handler_list",
    ),
    "blocking_notifier_head": (
        "reboot_notifier_list", "module_notify_list", "inetaddr_chain", "inetaddr_validator_chain",
        "inet6addr_validator_chain", "oom_notify_list", "pm_chain_head", "cpufreq_policy_notifier_list",
        "fb_notifier_list", "backlight_notifier", "acpi_chain_head", "usb_notifier_list",
        "vmap_notify_list", "task_exit_notifier", "acpi_lid_notifier", "restart_prep_handler_list",
        "memory_chain", "blocking_lsm_notifier_chain", "crypto_chain",
        "x86_mce_decoder_chain", "xenbus_backend_chain", "xenstore_chain",
    ),
    "raw_notifier_head": ("netdev_chain",),
    "srcu_notifier_head": ("cpufreq_transition_notifier_list",),
}  # fmt: skip
"""By the type of the head. Those that a kernel lacks are left out."""


class Notifiers:
    """The chains of one snapshot."""

    def __init__(self, memory: TypedMemory) -> None:
        self._memory = memory

    def all(self) -> Iterator[Found]:
        """The functions of each chain, in the order in which they are called."""
        memory = self._memory
        for head_type, names in CHAINS.items():
            for name in names:
                if memory.has_symbol(name):
                    head = memory.at(memory.symbol(name), head_type, "head")
                    yield from self._chain(name, head)
        nets = memory.list(memory.ring("net_namespace_list"), "net", "list")
        if memory.types.has("net", "netdev_chain"):
            yield from each(
                nets, lambda net: self._chain("netdev_chain", memory.at(net, "net", "netdev_chain.head"))
            )

    def _chain(self, name: str, head: int) -> Iterator[Found]:
        memory = self._memory

        def one(block: int) -> Iterator[Found]:
            at = memory.at(block, "notifier_block", "priority")
            what = f"{name} priority {memory.number(at, 4, signed=True)}"
            yield Hook(what, memory.get(block, "notifier_block", "notifier_call"), block)

        def blocks() -> Iterator[int]:
            yield from memory.chain(memory.word(head), memory.types.offset("notifier_block", "next"))

        for found in each(blocks(), one):
            yield Lost(f"{name}: {found.reason}") if isinstance(found, Lost) else found
