"""Bringing a snapshot and a trusted kernel together in one machine.

What is done, in this order: the trusted kernel is mapped as it was stored; the twin and the snapshot's
address space are set up to be filled on demand; the clock is stopped at the snapshot's last tick; the proxy
task, the task whose system calls we make, is pointed to the snapshot's namespaces. Every write goes to
copy-on-write pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from hybridbridge_vol.bridge.attachment import Bridge, moved
from hybridbridge_vol.bridge.clock import stop_clock
from hybridbridge_vol.bridge.faults import ExceptionFilter
from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.memo_store import load_memo
from hybridbridge_vol.bridge.modules.snapshot_modules import SnapshotModules
from hybridbridge_vol.bridge.per_cpu import boot_margin, place_offset
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.space import MAX_SNAPSHOT, SnapshotSpace, Window
from hybridbridge_vol.bridge.text.prepared import Prepared, load_or_error
from hybridbridge_vol.bridge.text.rebased_text import TwinText
from hybridbridge_vol.bridge.text.trampolines import home_trampolines, twin_trampolines
from hybridbridge_vol.errors import AttachError, ImageError
from hybridbridge_vol.machine.machine import (
    GS_BASE_MSR,
    Machine,
    UnmappedVirtual,
)
from hybridbridge_vol.machine.memory import HostMapping, page_up
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.find_kernel import Found
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout, read_layout
from hybridbridge_vol.trust.modules import load as load_module
from hybridbridge_vol.trust.placement import START_KERNEL_MAP
from hybridbridge_vol.trust.stored_kernel import Boot, StoredKernel
from hybridbridge_vol.units import Progress

_NAMESPACES = ("init_uts_ns", "init_ipc_ns", "init_pid_ns", "init_net", "init_time_ns", "init_cgroup_ns")
"""What an nsproxy points to, but for the mount namespace: the proxy task's mounts stay its own."""
_SECURITY_BEFORE_USER_NS = 16  # struct cred, include/linux/cred.h: security, user, user_ns
_NUMBER_BEFORE_NS = 8  # struct upid, include/linux/pid.h: nr, ns
_INIT_PID = 1
_NSPROXY_WORDS = 9  # struct nsproxy, include/linux/nsproxy.h: a counter and eight pointers


def attach(
    image: PhysicalImage,
    kernel: StoredKernel,
    found: Found,
    progress: Progress | None = None,
    memo: Memo | None = None,
) -> Bridge:
    """Attach `kernel` to the snapshot in `image`, where it was `found`; `memo` is by default the stored one.

    Raises AttachError or ImageError when the snapshot cannot be used, StoreError or BootError when the stored
    kernel cannot.
    """
    if image.end_paddr > MAX_SNAPSHOT:
        raise ImageError(
            f"{image.path}: more than {MAX_SNAPSHOT >> 30} GiB of physical addresses are not supported"
        )
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
        _point_proxy_task_at_snapshot(bridge)
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
    image: PhysicalImage,
    kernel: StoredKernel,
    boot: Boot,
    prepared: Prepared,
    layout: SnapshotLayout,
    machine: Machine,
    ram: HostMapping,
    memo: Memo,
) -> Bridge:
    text, symbols = kernel.text_link_vaddr, kernel.symbols
    home_text = text + boot.layout.kernel_delta
    start = text - START_KERNEL_MAP

    def number(offset: int, size: int) -> int | None:
        data = image.read_available(layout.text_paddr + offset, size)
        return None if data is None else int.from_bytes(data, "little", signed=size > 1)

    def branches(start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Those of static keys (`static_key.enabled` are a key's first 32 bits) and of the processor's
        features."""
        yield from prepared.labels.patches(start, end, lambda key: number(key, 4))
        yield from prepared.features.patches(start, end, lambda byte: number(byte, 1))

    at_home = place_offset(machine, kernel, boot, prepared.per_cpu, layout)

    def per_cpu(name: str) -> int | None:
        """What a module's code must name to reach home's per-CPU variable, if that is not what the snapshot's
        names."""
        offset = (symbols.get(name) or 0) - text
        if not prepared.per_cpu.start <= offset < prepared.per_cpu.end:
            return None
        return home_text + offset

    twin = TwinText(
        ram.view[start : start + kernel.end_link_vaddr - text],
        prepared.sites,
        layout.shift - boot.layout.kernel_delta,
        list(
            twin_trampolines(prepared.trampolines, layout.text_vaddr, home_text, boot.layout.guard_hole.start)
        ),
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
        moved(symbols.get("__per_cpu_start") or 0, layout.shift),
        number(symbols.address("__per_cpu_offset") - text, 8) or 0,
    )
    modules = SnapshotModules(
        image,
        layout,
        memo,
        page_up(layout.size),
        cache(lambda name: load_module(kernel.folder, name)),
        cache(lambda name: [moved(vaddr, layout.shift) for vaddr in symbols.addresses(name)]),
        lambda name: None if name not in symbols else moved(symbols.address(name), boot.layout.kernel_delta),
        cache(per_cpu),
        beside,
    )
    space = SnapshotSpace(machine, image, layout, boot.layout, twin, window, memo, modules, beside)
    return Bridge(kernel, boot, prepared, image, layout, machine, ram, space, twin, memo)


def _patch_home(bridge: Bridge) -> None:
    """The policy's answers in the trusted kernel's own text, in our private copy of it."""
    start = bridge.kernel.text_link_vaddr - START_KERNEL_MAP
    for offset, code in home_trampolines(bridge.prepared.trampolines):
        bridge.ram.view[start + offset : start + offset + len(code)] = code


def _point_proxy_task_at_snapshot(bridge: Bridge) -> None:
    """The proxy task's own namespaces, pid and credentials in the eyes of the snapshot: its init's."""
    machine, proxy_task = bridge.machine, bridge.prepared.proxy_task
    names = {bridge.home(name): name for name in _NAMESPACES if name in bridge.kernel.symbols}
    # the proxy task shares init_nsproxy with every kernel thread of the trusted kernel; none of them runs any
    # more
    nsproxy = machine.read_u64(proxy_task.task + proxy_task.task_nsproxy)
    for place in range(nsproxy, nsproxy + 8 * _NSPROXY_WORDS, 8):
        name = names.get(machine.read_u64(place))
        if name:
            machine.write_u64(place, bridge.snapshot(name))
            bridge.namespaces[place] = name
    machine.write_u64(proxy_task.pid + proxy_task.pid_namespace, bridge.snapshot("init_pid_ns"))
    # whatever helper's number the proxy task had: /proc/self, and with it /proc/net and /proc/mounts, is the
    # snapshot's init
    machine.write(
        proxy_task.pid + proxy_task.pid_namespace - _NUMBER_BEFORE_NS, _INIT_PID.to_bytes(4, "little")
    )
    machine.write_u64(proxy_task.cred + proxy_task.cred_user_namespace, bridge.snapshot("init_user_ns"))
    if "init_cred" in bridge.kernel.symbols:
        # security modules of the snapshot look into the proxy task's credentials: they find what its init was
        # given
        security = proxy_task.cred_user_namespace - _SECURITY_BEFORE_USER_NS
        machine.write_u64(
            proxy_task.cred + security, machine.read_u64(bridge.snapshot("init_cred") + security)
        )
