"""Bringing a snapshot and a trusted kernel together in one machine.

What is done, in this order: the trusted kernel is mapped as it was stored; the twin and the snapshot's address
space are set up to be filled on demand; the clock is stopped at the snapshot's last tick; the agent, the task whose
system calls we make, is pointed to the snapshot's namespaces. Every write goes to copy-on-write pages.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from hybridbridge_vol.bridge import memo as memos
from hybridbridge_vol.bridge.clock import stop_clock
from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.modules.snapshot_modules import SnapshotModules
from hybridbridge_vol.bridge.modules.traps import FixUp
from hybridbridge_vol.bridge.per_cpu import boot_margin, place_offset
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.space import MAX_SNAPSHOT, SnapshotSpace, Window
from hybridbridge_vol.bridge.text.policy import policy_digest
from hybridbridge_vol.bridge.text.prepared import Prepared, load_or_error
from hybridbridge_vol.bridge.text.rebased_text import TwinText
from hybridbridge_vol.bridge.text.trampolines import home_overlays, twin_overlays
from hybridbridge_vol.bridge.text.ud1 import UD2_SIZE, ud1_size
from hybridbridge_vol.errors import AttachError, HybridBridgeWarning, ImageError, MemoError
from hybridbridge_vol.machine.machine import (
    GS_BASE_MSR,
    VECTOR_GENERAL_PROTECTION,
    VECTOR_INVALID_OPCODE,
    VECTOR_PAGE_FAULT,
    Machine,
    UnmappedVirtual,
    Verdict,
)
from hybridbridge_vol.machine.memory import HostMapping, page_up
from hybridbridge_vol.memory_image.open import PhysicalImage
from hybridbridge_vol.snapshot.find_kernel import Found
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout, read_layout
from hybridbridge_vol.trust.modules import load as load_module
from hybridbridge_vol.trust.placement import START_KERNEL_MAP
from hybridbridge_vol.trust.stored_kernel import Boot, MemoryCheck, Progress, StoredKernel

U64 = (1 << 64) - 1
_NAMESPACES = ("init_uts_ns", "init_ipc_ns", "init_pid_ns", "init_net", "init_time_ns", "init_cgroup_ns")
"""What an nsproxy points to, but for the mount namespace: the agent's mounts stay its own."""
_SECURITY_BEFORE_USER_NS = 16  # struct cred, include/linux/cred.h: security, user, user_ns
_MAX_INSTRUCTION = 15
_NUMBER_BEFORE_NS = 8  # struct upid, include/linux/pid.h: nr, ns
_INIT_PID = 1
_NSPROXY_WORDS = 9  # struct nsproxy, include/linux/nsproxy.h: a counter and eight pointers


@dataclass
class Bridge:
    """A trusted kernel attached to a snapshot. Virtual addresses; `text` is `_text` on each side."""

    kernel: StoredKernel
    boot: Boot
    prepared: Prepared
    image: PhysicalImage
    layout: SnapshotLayout
    machine: Machine
    ram: HostMapping
    space: SnapshotSpace
    twin: TwinText
    memo: Memo
    check: MemoryCheck | None = None
    namespaces: dict[int, str] = field(default_factory=dict)
    """Where the agent's nsproxy points to namespaces (virtual addresses), and the symbol that each began as."""

    @property
    def home_delta(self) -> int:
        """What is added to a link-time address to get home's."""
        return self.boot.layout.kernel_delta

    def home(self, name: str) -> int:
        """The trusted kernel's symbol; KeyError if there is none."""
        return _moved(self.kernel.symbols.address(name), self.home_delta)

    def snapshot(self, name: str) -> int:
        """The same symbol on the snapshot's side: its data, or the twin's code."""
        return _moved(self.kernel.symbols.address(name), self.layout.shift)

    def describe(self, vaddr: int) -> str:
        """A code or data address in words, for messages: "twin proc_pid_status+0x10"."""
        for side, text in (("home", self.kernel.text_link_vaddr + self.home_delta), ("twin", self.layout.text_vaddr)):
            offset = vaddr - text
            if 0 <= offset < self.layout.size:
                found = self.kernel.symbols.lookup(self.kernel.text_link_vaddr + offset)
                if found:
                    return f"{side} {found[0]}+{found[1]:#x}"
        part = self.space.modules.placed_at(vaddr)
        if part is not None:
            return f"module {part.module.name} {part.module.describe(vaddr)}"
        name = self.space.modules.name_at(vaddr)
        return f"module {name}" if name else f"{vaddr:#x}"

    def in_twin(self, vaddr: int) -> bool:
        """Whether an address lies in the snapshot's kernel image window, or in a module's trusted part."""
        return self.space.offset_of(vaddr) is not None

    def confirm(self) -> None:
        """Wait until the stored kernel's memory has proved whole; StoreError if it is not. Before any answer counts."""
        if self.check is not None:
            self.check.finish()

    def close(self) -> None:
        """Let the machine and the memory go; nothing can be read any more."""
        mappings = [self.space.whole_twin, *(mapping for _paddr, mapping in self.machine.memory.regions())]
        self.machine.release()
        for mapping in mappings:
            mapping.discard_writes()
        vars(self.space).pop("builder", None)  # the two refer to each other


def _moved(link_vaddr: int, delta: int) -> int:
    return (link_vaddr + delta) & U64 if link_vaddr >= START_KERNEL_MAP else link_vaddr


def memo_key(kernel: StoredKernel, levels: int = 4) -> MemoKey:
    """What a memo for this kernel must be made for. With other page tables its text is another: alternatives."""
    policy = policy_digest() if levels == 4 else f"{policy_digest()}-{levels}-levels"
    return MemoKey(kernel.build_id, policy, kernel.release)


def load_memo(kernel: StoredKernel, levels: int = 4) -> Memo:
    """The stored memo, or an empty one where it cannot be used: everything is proven again then."""
    key = memo_key(kernel, levels)
    try:
        return memos.load(kernel.folder, key)
    except MemoError as error:
        warnings.warn(str(error), HybridBridgeWarning, stacklevel=2)
        return Memo(key)


def attach(
    image: PhysicalImage, kernel: StoredKernel, found: Found, progress: Progress | None = None, memo: Memo | None = None
) -> Bridge:
    """Attach `kernel` to the snapshot in `image`, where it was `found`; `memo` is by default the stored one.

    Raises AttachError or ImageError when the snapshot cannot be used, StoreError or BootError when the stored
    kernel cannot.
    """
    if image.end_paddr > MAX_SNAPSHOT:
        raise ImageError(f"{image.path}: more than {MAX_SNAPSHOT >> 30} GiB of physical addresses are not supported")
    text, end = kernel.text_link_vaddr, kernel.end_link_vaddr
    layout = read_layout(image, kernel.symbols, text, end, found)
    margin = boot_margin(kernel)
    window = layout.text_vaddr - margin, layout.text_vaddr + page_up(layout.size) + margin
    boot = kernel.boot_clear_of(*window, progress, layout.levels)
    check = boot.verify()  # runs beside us
    prepared = load_or_error(kernel, boot)
    machine = Machine(layout.levels)
    try:
        ram = boot.map_memory()
        machine.place(0, ram)
        machine.load_state(boot.state)
        memo = load_memo(kernel, layout.levels) if memo is None else memo
        bridge = _assemble(image, kernel, boot, prepared, layout, machine, ram, memo)
        bridge.check = check
        machine.exception_filter = ExceptionFilter(bridge, machine)
        _patch_home(bridge)
        stop_clock(bridge.machine, bridge.twin, kernel.symbols, layout, text)
        _point_agent_at_snapshot(bridge)
    except UnmappedVirtual as error:
        machine.rest()
        check.finish()
        raise AttachError(
            f"{image.path}: the kernel's own data at {error.vaddr:#x} is not in the image; it was truncated or smeared"
        ) from None
    except BaseException:
        machine.rest()
        raise
    return bridge


def _assemble(
    image: PhysicalImage, kernel: StoredKernel, boot: Boot, prepared: Prepared, layout: SnapshotLayout,
    machine: Machine, ram: HostMapping, memo: Memo,
) -> Bridge:
    text, symbols = kernel.text_link_vaddr, kernel.symbols
    home_text = text + boot.layout.kernel_delta
    start = text - START_KERNEL_MAP

    def number(offset: int, size: int) -> int | None:
        data = image.read_available(layout.text_paddr + offset, size)
        return None if data is None else int.from_bytes(data, "little", signed=size > 1)

    def branches(start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Those of static keys (`static_key.enabled` are a key's first 32 bits) and of the processor's features."""
        yield from prepared.labels.patches(start, end, lambda key: number(key, 4))
        yield from prepared.features.patches(start, end, lambda byte: number(byte, 1))

    at_home = place_offset(machine, kernel, boot, prepared.per_cpu, layout)

    def per_cpu(name: str) -> int | None:
        """What a module's code must name to reach home's per-CPU variable, if that is not what the snapshot's names."""
        offset = (symbols.get(name) or 0) - text
        if not prepared.per_cpu.start <= offset < prepared.per_cpu.end:
            return None
        return home_text + offset

    twin = TwinText(
        ram.view[start : start + kernel.end_link_vaddr - text],
        prepared.sites,
        layout.shift - boot.layout.kernel_delta,
        list(twin_overlays(prepared.crossings, layout.text_vaddr, home_text, boot.layout.guard_hole.start)),
        memo.text.trusted,
        branches,
        at_home,
    )
    window = Window(
        symbols.address("_etext") - text,
        page_up(prepared.rodata_end),
        (symbols.get("__start_ro_after_init") or text) - text & -4096,
        page_up((symbols.get("__end_ro_after_init") or text) - text),
    )
    beside = PerCpuWindow(
        machine.read_msr(GS_BASE_MSR),
        _moved(symbols.get("__per_cpu_start") or 0, layout.shift),
        number(symbols.address("__per_cpu_offset") - text, 8) or 0,
    )
    modules = SnapshotModules(
        image,
        layout,
        memo,
        page_up(layout.size),
        cache(lambda name: load_module(kernel.folder, name)),
        cache(lambda name: [_moved(vaddr, layout.shift) for vaddr in symbols.addresses(name)]),
        lambda name: None if name not in symbols else _moved(symbols.address(name), boot.layout.kernel_delta),
        cache(per_cpu),
        beside,
    )
    space = SnapshotSpace(machine, image, layout, boot.layout, twin, window, memo, modules, beside)
    return Bridge(kernel, boot, prepared, image, layout, machine, ram, space, twin, memo)


class ExceptionFilter:
    """What to do about an exception while a bridge runs: complete the snapshot's space, let the trusted kernel fix
    up what its exception table covers, and end the call for everything else."""

    def __init__(self, bridge: Bridge, machine: Machine) -> None:
        self._bridge = bridge
        self._machine = machine
        self._home_text = bridge.kernel.text_link_vaddr + bridge.home_delta

    def __call__(self, vector: int, rip: int, cr2: int) -> Verdict:
        """See `machine.ExceptionFilter`."""
        if vector == VECTOR_PAGE_FAULT and self._bridge.space.complete(cr2):
            return Verdict.RESUME
        if vector == VECTOR_PAGE_FAULT and rip != cr2 and self._bridge.in_twin(rip) and self._per_cpu(rip, cr2):
            return Verdict.RESUME
        if vector == VECTOR_INVALID_OPCODE:
            return self._warn(rip)
        if vector in (VECTOR_PAGE_FAULT, VECTOR_GENERAL_PROTECTION):
            return self._fix_up(rip)
        return Verdict.STOP

    def _per_cpu(self, rip: int, cr2: int) -> bool:
        from hybridbridge_vol.bridge.per_cpu import redirect

        return redirect(self._bridge, self._machine, rip, cr2)

    def _warn(self, rip: int) -> Verdict:
        """Go on behind a WARN of either side (locks count as held, and the kernel may check that); a BUG is the end."""
        part = self._bridge.space.modules.placed_at(rip)
        if part is not None and rip in part.module.warnings or _contains(self._bridge.prepared.warnings, rip - self._text_of(rip)):
            size = UD2_SIZE
        else:
            size = self._ud1_size(rip)
        if not size:
            return Verdict.STOP
        self._machine.write_register("RIP", rip + size)
        return Verdict.RESUME

    def _ud1_size(self, rip: int) -> int:
        try:
            return ud1_size(self._machine.read(rip, _MAX_INSTRUCTION))
        except UnmappedVirtual:
            return 0

    def _text_of(self, rip: int) -> int:
        return self._bridge.layout.text_vaddr if self._bridge.in_twin(rip) else self._home_text

    def _fix_up(self, rip: int) -> Verdict:
        """Deliver faults of covered instructions; one in the twin is told to the kernel as home's. Of a module the kernel
        does not know: what it would do is done here."""
        part = self._bridge.space.modules.placed_at(rip)
        if part is not None:
            fix_up = part.module.fix_ups.get(rip)
            return Verdict.STOP if fix_up is None else self._go_on(fix_up)
        text = self._text_of(rip)
        if not _contains(self._bridge.prepared.fixups, rip - text):
            return Verdict.STOP
        if text != self._home_text:
            self._machine.write_register("RIP", rip - text + self._home_text)
        return Verdict.DELIVER

    def _go_on(self, fix_up: FixUp) -> Verdict:
        if fix_up.register:
            self._machine.write_register(fix_up.register, fix_up.value)
        self._machine.write_register("RIP", fix_up.vaddr)
        return Verdict.RESUME


def _contains(ascending: Sequence[int], value: int) -> bool:
    place = bisect_left(ascending, value) if value >= 0 else len(ascending)
    return place < len(ascending) and ascending[place] == value


def _patch_home(bridge: Bridge) -> None:
    """The policy's answers in the trusted kernel's own text, in our private copy of it."""
    start = bridge.kernel.text_link_vaddr - START_KERNEL_MAP
    for offset, code in home_overlays(bridge.prepared.crossings):
        bridge.ram.view[start + offset : start + offset + len(code)] = code


def _point_agent_at_snapshot(bridge: Bridge) -> None:
    """The agent's own namespaces, pid and credentials in the eyes of the snapshot: its init's."""
    machine, agent = bridge.machine, bridge.prepared.agent
    names = {bridge.home(name): name for name in _NAMESPACES if name in bridge.kernel.symbols}
    # the agent shares init_nsproxy with every kernel thread of the trusted kernel; none of them runs any more
    nsproxy = machine.read_u64(agent.task + agent.task_nsproxy)
    for place in range(nsproxy, nsproxy + 8 * _NSPROXY_WORDS, 8):
        name = names.get(machine.read_u64(place))
        if name:
            machine.write_u64(place, bridge.snapshot(name))
            bridge.namespaces[place] = name
    machine.write_u64(agent.pid + agent.pid_namespace, bridge.snapshot("init_pid_ns"))
    # whatever helper's number the agent had: /proc/self, and with it /proc/net and /proc/mounts, is the snapshot's init
    machine.write(agent.pid + agent.pid_namespace - _NUMBER_BEFORE_NS, _INIT_PID.to_bytes(4, "little"))
    machine.write_u64(agent.cred + agent.cred_user_namespace, bridge.snapshot("init_user_ns"))
    if "init_cred" in bridge.kernel.symbols:
        # security modules of the snapshot look into the agent's credentials: they find what its init was given
        security = agent.cred_user_namespace - _SECURITY_BEFORE_USER_NS
        machine.write_u64(agent.cred + security, machine.read_u64(bridge.snapshot("init_cred") + security))
