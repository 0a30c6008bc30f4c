"""Per-CPU variables in the code of a module: which fields are redirected, and where to.

`%gs:` references to per-CPU variables of the kernel reach the trusted kernel's, as the twin's do. Those to
variables of modules reach the snapshot's, through the window beside the trusted kernel's per-CPU area. These
are also reached by adding `this_cpu_off`, which therefore is the snapshot's, too: so are the per-CPU pointers
that a module follows in this way.
"""

from __future__ import annotations

from hybridbridge_vol.bridge.modules.names import ModuleNames
from hybridbridge_vol.bridge.modules.relocated_module import Reference, Segment
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.text.per_cpu_references import gs_fields

_FIELD_SIZE = 4
"""Bytes of a displacement."""
_THIS_CPU_OFF = "this_cpu_off"


def redirect_per_cpu(text: Segment, names: ModuleNames, window: PerCpuWindow) -> None:
    """Redirect the fields of a module's code."""
    for offset, is_relative in gs_fields(text.content):
        reference = text.references.get(offset)
        loaded = bytes(text.content[offset : offset + _FIELD_SIZE])
        data = loaded
        if offset in text.per_cpu or reference is not None and not names.snapshot(reference.name):
            data = _in_window(window, loaded)
        elif reference is not None and is_relative:
            data = _of_kernel(reference, text.vaddr + offset, names, window) or loaded
        if data != loaded:
            text.as_loaded[offset] = loaded
            text.write(offset, data)


def _in_window(window: PerCpuWindow, loaded: bytes) -> bytes:
    """The field of a reference to a per-CPU variable of a module."""
    name = window.name_of(0) + int.from_bytes(loaded, "little")
    return (name & (1 << 8 * _FIELD_SIZE) - 1).to_bytes(_FIELD_SIZE, "little")


def _of_kernel(
    reference: Reference, field_vaddr: int, names: ModuleNames, window: PerCpuWindow
) -> bytes | None:
    """The field of a reference relative to RIP to a per-CPU variable of the kernel; None if it may stay."""
    own = names.snapshot(_THIS_CPU_OFF) if reference.name == _THIS_CPU_OFF else []
    vaddr = window.name_of(own[0]) if own else names.home_per_cpu(reference.name)
    return None if vaddr is None else reference.field(vaddr, field_vaddr)
