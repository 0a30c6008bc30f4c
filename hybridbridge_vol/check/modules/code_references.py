"""What the code of a module refers to, its initialisation code included, which is no longer in memory: to
find out whether the module itself stores a pointer that is not as its file has it."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from hybridbridge_vol.check.modules.linked_module import Vaddrs
from hybridbridge_vol.check.modules.placed_module import PlacedModule
from hybridbridge_vol.kernel_file.module import ModuleFile
from hybridbridge_vol.units import U64

NEAR = 64
"""Bytes of code within which a store refers to the variable and to what is stored: one instruction, or the
arguments of a call of `__static_call_update`."""
_BEHIND_FIELD = (4, 5, 6, 8)
"""From a relative field to the end of its instruction: the field itself, and an operand behind it."""
_STORE = re.compile(
    rb"[\x48\x49]\xc7(?:[\x00-\x03\x06\x07]|[\x40-\x43\x45-\x47](?P<near>.)|\x44.(?P<near_2>.)"
    rb"|[\x80-\x83\x85-\x87](?P<far>.{4})|\x84.(?P<far_2>.{4}))",
    re.DOTALL,
)
"""`mov qword ptr [reg + X], imm32` up to the immediate: with no X, with 8 bits or 32 bits of it, with or
without a second register (SDM volume 2, 2.1.5)."""
_LONGEST_STORE = 8
_LOAD = re.compile(
    rb"[\x48\x49\x4c\x4d]\x8b"
    rb"(?:[\x00-\x3f]|[\x40-\x7f](?P<near>.)|[\x80-\xbf](?P<far>.{4}))",
    re.DOTALL,
)
"""`mov reg, qword ptr [reg + X]`; with a second register, which none of these have, it is not understood."""


class CodeReferences:
    """The references in the code of a placed module. `positions` are ascending within a section, and far
    apart between sections; `places` and `offsets` are what is referred to, `relative` whether it is relative
    to the end of the instruction."""

    def __init__(
        self,
        placed: PlacedModule,
        file: ModuleFile,
        positions: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.int64],
        relative: npt.NDArray[np.bool_],
    ) -> None:
        self._file = file
        self._positions = positions
        self._relative = relative
        self._known = placed.known(places)
        self._vaddrs: Vaddrs = placed.vaddrs[places] + offsets.view(np.uint64)

    def _of(self, vaddr: int) -> npt.NDArray[np.int64]:
        """Positions of the references to an address."""
        distance = np.uint64(vaddr) - self._vaddrs
        behind = np.isin(distance, np.array(_BEHIND_FIELD, np.uint64))
        fits = np.where(self._relative, behind, distance == 0)
        return self._positions[fits & self._known]

    def stores(self, value: int, variable_vaddr: int, near: int = NEAR) -> bool:
        """Whether code refers to a variable, and close by to an address that it may hold. Zero, which nothing
        refers to, may be stored wherever the code refers to the variable."""
        variables = self._of(variable_vaddr)
        if not value or not len(variables):
            return bool(len(variables))
        values = self._of(value)
        return bool((np.abs(values[:, None] - variables[None, :]) <= near).any())

    def stores_by_pointer(self, value: int, variable_vaddr: int) -> bool:
        """Whether code stores an address at an offset from a pointer, and refers to the place that lies by
        this offset before the variable: to a structure that it passes to a function which fills it in."""
        return any(len(self._of(variable_vaddr - offset & U64)) for offset in self._offsets_stored_to(value))

    def _offsets_stored_to(self, value: int) -> set[int]:
        found = set()
        for position in self._of(value).tolist():
            section, field = position >> 32, position & 0xFFFFFFFF
            before = bytes(self._file.sections[section].data[max(field - _LONGEST_STORE, 0) : field])
            for size in range(3, len(before) + 1):
                store = _STORE.fullmatch(before[-size:])
                if store is not None:
                    data = next((group for group in store.groups() if group), b"")
                    found.add(int.from_bytes(data, "little", signed=True))
        return found

    def loaded_slots(self, variable_vaddr: int) -> set[int]:
        """Offsets in structures from which code loads a word close before it refers to a variable, or
        behind."""
        found = set()
        for position in self._of(variable_vaddr).tolist():
            section, field = position >> 32, position & 0xFFFFFFFF
            code = bytes(self._file.sections[section].data[max(field - NEAR, 0) : field + NEAR])
            for at in range(len(code)):
                load = _LOAD.match(code, at)
                if load is not None:
                    data = load["near"] or load["far"] or b""
                    found.add(int.from_bytes(data, "little", signed=True))
        return found

    def near(self, variable_vaddr: int) -> list[int]:
        """The addresses that code refers to close to a reference to a variable."""
        variables = self._of(variable_vaddr)
        close = (np.abs(self._positions[:, None] - variables[None, :]) <= NEAR).any(axis=1) & self._known
        found: set[int] = set()
        for vaddr, relative in zip(self._vaddrs[close].tolist(), self._relative[close].tolist(), strict=True):
            found |= {vaddr + behind for behind in _BEHIND_FIELD} if relative else {vaddr}
        return sorted(found)
