"""Why a call did not end well, in one phrase."""

from __future__ import annotations

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.machine.exceptions import (
    VECTOR_BREAKPOINT,
    VECTOR_DIVIDE_ERROR,
    VECTOR_GENERAL_PROTECTION,
    VECTOR_INVALID_OPCODE,
    VECTOR_PAGE_FAULT,
)
from hybridbridge_vol.machine.machine import Stop
from hybridbridge_vol.machine.watchdog import MAX_MEMORY

_EXCEPTIONS = {
    VECTOR_DIVIDE_ERROR: "divide error",
    VECTOR_BREAKPOINT: "breakpoint",
    VECTOR_INVALID_OPCODE: "invalid instruction",
    VECTOR_GENERAL_PROTECTION: "general protection fault",
    VECTOR_PAGE_FAULT: "page fault",
}


def explain_stop(bridge: Bridge, stop: Stop, seconds: float) -> str:
    """Why a run of a call that may take `seconds` stopped, for messages."""
    where = bridge.describe(stop.rip)
    if stop.kind == "exception":
        return _explain_exception(bridge, stop, where)
    if stop.kind == "forged":
        return stop.detail
    if stop.kind == "halted":
        return f"the call would wait for something that never comes ({where})"
    if stop.kind == "budget":
        return f"budget of {seconds:.0f} s exceeded in {where}"
    if stop.kind == "memory":
        return f"more than {MAX_MEMORY >> 20} MiB of memory taken in {where}"
    return f"stopped in {where}: {stop.detail}"


def _explain_exception(bridge: Bridge, stop: Stop, where: str) -> str:
    if stop.vector != VECTOR_PAGE_FAULT:
        return f"{_name_of(stop.vector)} in {where}"
    if stop.cr2 == stop.rip:
        return _explain_foreign_code(bridge, stop.rip)
    absent = bridge.virtual_memory.why_unreadable(stop.cr2) if bridge.may_be_snapshot(stop.cr2) else None
    return absent or f"{_EXCEPTIONS[VECTOR_PAGE_FAULT]} in {where} at {stop.cr2:#x}"


def _name_of(vector: int | None) -> str:
    return _EXCEPTIONS.get(vector, f"exception {vector}") if vector is not None else "exception"


def where_stopped(bridge: Bridge, stop: Stop) -> str:
    """The same with addresses, for those who look for a fault in the bridge or in the image's bytes."""
    at = f" at {stop.cr2:#x}" if stop.kind == "exception" and stop.vector == VECTOR_PAGE_FAULT else ""
    what = _name_of(stop.vector) if stop.kind == "exception" else stop.kind
    return f"{what} in {bridge.describe(stop.rip)}{at}"


def _explain_foreign_code(bridge: Bridge, vaddr: int) -> str:
    """Why nothing is executable at an address that was jumped to."""
    modules = bridge.space.modules
    name = modules.name_at(vaddr)
    if name is None:
        return f"code outside of the trusted kernel and its modules at {vaddr:#x}"
    if not modules.has_file(name):
        return (
            f"needs code of module {name}, of which no trusted file is stored: "
            "give its package to 'hb trust add'"
        )
    location = modules.locate(name)
    if location is not None and not location.holds(vaddr):  # it is only the nearest one
        return f"needs code of no module that the kernel lists, at {vaddr:#x}"
    return f"needs code of module {name}, which is not in the image as in its trusted file ({vaddr:#x})"
