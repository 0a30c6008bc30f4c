"""All kinds of handlers, each with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hybridbridge_vol.bridge.objects.list_ends import Broken
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.bridge.snapshot_space import UPPER_HALF
from hybridbridge_vol.check.symbol_names import known_modules
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.tools.kernel_hooks.deferred import Deferred
from hybridbridge_vol.tools.kernel_hooks.device_files import DeviceFiles
from hybridbridge_vol.tools.kernel_hooks.devices import Devices
from hybridbridge_vol.tools.kernel_hooks.files import FileTables
from hybridbridge_vol.tools.kernel_hooks.judge import NO_MODULE, NOT_LISTED, TORN, TRUSTED, Judge
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.tools.kernel_hooks.network import Network
from hybridbridge_vol.tools.kernel_hooks.notifiers import Notifiers
from hybridbridge_vol.tools.kernel_hooks.open_files import OpenFiles
from hybridbridge_vol.tools.kernel_hooks.pointer_places import PointerPlaces
from hybridbridge_vol.tools.kernel_hooks.pointers import Pointers
from hybridbridge_vol.tools.kernel_hooks.sysfs_files import SysfsFiles
from hybridbridge_vol.tools.kernel_hooks.tracing import Tracing
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, Lost, Operations

Cells = tuple[Cell, ...]
"""What was hooked, the function, its symbol, its module, the verdict, the object."""
_CELLS = 6
NO_TABLE = "no table of functions: words that lead to no code; forged, or the image is of several moments"
"""Why there is no verdict on what a pointer leads to: the kernel would not live through calling it."""


def hooks(kernel: GuestKernel, kinds: Iterable[str]) -> Iterator[tuple[str, Cells, tuple[Source, ...]]]:
    """The kind and the cells of each handler of some kinds, and where its pointer stands; of a kernel whose
    types are not known, why there are none."""
    try:
        memory = TypedMemory(kernel.bridge)
    except HybridBridgeError as error:
        yield from ((kind, _lost(str(error)), ()) for kind in kinds)
        return
    listed, lost = known_modules(kernel)
    names = KernelNames(kernel.bridge, listed, lost.reason if lost else "")
    judge = Judge(kernel, memory, names)
    searches = _searches(kernel, memory, names)
    reported: list[tuple[int, int]] = []
    searches["pointer"] = Pointers(kernel, memory, names, judge, reported).all
    places = PointerPlaces(memory, kernel.answer_labels)
    for kind in kinds:
        memory.begin()
        for cells in _of_kind(judge, searches[kind]):
            if cells[4] != TRUSTED and isinstance(cells[1], int) and isinstance(cells[5], int):
                reported.append((cells[5], cells[1]))
            yield kind, cells, places.sources(cells[-1], cells[1])


def _searches(
    kernel: GuestKernel, memory: TypedMemory, names: KernelNames
) -> dict[str, Callable[[], Iterator[Found]]]:
    tracing, network = Tracing(memory, names), Network(memory)
    devices = Devices(memory, kernel.addresses.interrupt)
    files, deferred = FileTables(memory, names), Deferred(memory, names)
    return {
        "ftrace": tracing.ftrace,
        "kprobe": tracing.kprobes,
        "uprobe": tracing.uprobes,
        "tracepoint": tracing.tracepoints,
        "perf": tracing.perf_events,
        "netfilter": network.netfilter,
        "packet": network.packets,
        "protocol": network.protocols,
        "notifier": Notifiers(memory).all,
        "tty": devices.terminals,
        "interrupt": devices.interrupts,
        "format": devices.formats,
        "security": devices.security,
        "proc": files.proc,
        "filesystem": files.file_systems,
        "device": DeviceFiles(memory, names).all,
        "sysfs": SysfsFiles(memory, names).all,
        "descriptor": OpenFiles(memory, names).all,
        "timer": deferred.timers,
        "work": deferred.work,
        "kthread": deferred.threads,
    }


def _of_kind(judge: Judge, search: Callable[[], Iterator[Found]]) -> Iterator[Cells]:
    try:
        for found in search():
            yield from _cells(judge, found)
    except (LookupError, HybridBridgeError, *Broken, *UNREADABLE) as error:
        yield _lost(str(error))


def _cells(judge: Judge, found: Found) -> Iterator[Cells]:
    if isinstance(found, Lost):
        yield _lost(found.reason)
    elif isinstance(found, Hook):
        yield _of_function(judge, found)
    else:
        yield from _of_table(judge, found)


def _lost(reason: str) -> Cells:
    return (Unavailable(reason),) * _CELLS


def _of_function(judge: Judge, hook: Hook) -> Cells:
    if not hook.function_vaddr:
        return (hook.what, None, None, None, hook.suspicion or TRUSTED, hook.object_vaddr)
    symbol, module, verdict, doubt = judge.function(hook.function_vaddr)
    if hook.suspicion:
        verdict = hook.suspicion if verdict == TRUSTED else f"{verdict}; {hook.suspicion}"
    if verdict != TRUSTED and judge.is_of_several_moments(hook):
        doubt = TORN
    shown = Unavailable(f"{verdict}; {doubt}") if doubt else verdict
    return (hook.what, hook.function_vaddr, symbol or None, module or None, shown, hook.object_vaddr)


def _of_table(judge: Judge, table: Operations) -> Iterator[Cells]:
    """One row for a table that is trusted with all its functions, or that should not be used; and one for
    each function that is not trusted."""
    found = judge.table(table.table_vaddr)
    wrong: list[Cells] = []
    if found is None:
        try:
            hooks = [hook for _field, hook in judge.functions_of(table)]
            functions = [_of_function(judge, hook) for hook in hooks]
        except UnreadableVirtual as error:
            yield _lost(f"{table.what}: {error}")
            return
        if _is_no_table(judge, hooks):
            yield _no_table(table, functions)
            return
        wrong = [cells for cells in functions if cells[4] != TRUSTED]
        found = judge.holder(table.table_vaddr)
    yield from wrong
    if not wrong or table.suspicion:
        verdict = table.suspicion or found.verdict or TRUSTED
        what = f"{table.what} ({table.struct_name})"
        yield (
            what, table.table_vaddr, found.symbol or None, found.module or None, verdict, table.object_vaddr,
        )  # fmt: skip


def _no_table(table: Operations, functions: list[Cells]) -> Cells:
    """The row for what is no table: no verdict, but where a word leads to code of a rootkit's."""
    leads_to_code = any(cells[4] in (NOT_LISTED, NO_MODULE) for cells in functions)
    verdict = NO_TABLE if leads_to_code else Unavailable(NO_TABLE)
    what = f"{table.what} ({table.struct_name})"
    return what, table.table_vaddr, None, None, verdict, table.object_vaddr


def _is_no_table(judge: Judge, hooks: list[Hook]) -> bool:
    """Whether some words are no functions: one is no address, or more than one leads to what no processor
    would execute."""
    dead = [hook for hook in hooks if not judge.is_executable(hook.function_vaddr)]
    return len(dead) > 1 or any(hook.function_vaddr < UPPER_HALF for hook in hooks)
