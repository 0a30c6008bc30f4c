"""The helpers that a program calls, by their symbols."""

from __future__ import annotations

from collections.abc import Callable

from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.units import U64

_BASE = "__bpf_call_base"
"""The immediate of a call counts from here (kernel/bpf/core.c)."""


class Helpers:
    """`symbol_at` names what is at an address."""

    def __init__(self, kernel: GuestKernel, symbol_at: Callable[[int], str]) -> None:
        self._symbol_at = symbol_at
        self._known: dict[int, str] = {}
        try:
            self._base = kernel.bridge.snapshot(_BASE)
        except (KeyError, AttachError):
            self._base = 0

    def symbol(self, value: int) -> str:
        """The name of the function that a call with this immediate reaches; a number where that is not
        known."""
        if value not in self._known:
            vaddr = self._base + value & U64
            self._known[value] = self._symbol_at(vaddr) if self._base else f"{value:#x}"
        return self._known[value]
