"""The patch sites of a module that need a look: of hundreds of thousands, most are as in the file, or have
the form that every machine gives them, which is seen in whole columns at once."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hybridbridge_vol.check.modules.linked_module import Numbers, Sites
from hybridbridge_vol.check.patch_tables import Alternative, Branch, PatchTables, StaticCall
from hybridbridge_vol.check.patching import CALL_SIZE, CODE_SEGMENT, NOP5, RETURNS

_JUMP = 0xE9
_LONGEST = 6


class SiteColumns:
    """The sites of one module, whose code lies at `vaddr`."""

    def __init__(self, sites: Sites, expected: bytearray, found: bytearray, vaddr: int) -> None:
        self._sites = sites
        self._expected = expected
        self._found = found
        self._vaddr = vaddr

    def accept_usual(self, return_thunks: frozenset[int]) -> None:
        """Take over functions that are not traced, and returns: `ret`, or a jump to one of the thunks."""
        self._take(self._sites.mcount, NOP5)
        returns = self._sites.returns
        first = self._windows(self._expected, 1)[returns][:, 0] if len(returns) else returns
        plain = returns[first != CODE_SEGMENT]
        self._take(plain, RETURNS)
        self._take_jumps(plain, return_thunks)

    def remaining(self, key_vaddr: Callable[[int, int], int | None]) -> PatchTables:
        """The tables with the sites only that still differ; `mcount` is whole. `key_vaddr` gives the address
        of a static call's key by its place and the offset there."""
        sites = self._sites
        alternatives = [Alternative(*row) for row in sites.alternatives.reshape(-1, 4).tolist()]
        branches = sites.branches.reshape(-1, 3)
        calls = sites.static_calls.reshape(-1, 3)
        differ = self._differ(calls[:, 0])
        return PatchTables(
            alternatives,
            [(code, size) for code, size in sites.paravirt.reshape(-1, 2).tolist()],
            [
                Branch(code, size, target, 0)
                for code, size, target in branches[self._differ(branches[:, 0])].tolist()
            ],
            [
                StaticCall(code, key - self._vaddr, bool(tail))
                for (code, tail, place), offset in zip(
                    calls[differ].tolist(), sites.keys[differ].tolist(), strict=True
                )
                if (key := key_vaddr(place, offset)) is not None
            ],
            [],
            _offsets(sites.mcount),
            _offsets(sites.returns[self._differ(sites.returns)]),
            _offsets(sites.retpolines[self._differ(sites.retpolines)]),
            _offsets(sites.locks[self._differ(sites.locks)]),
            _offsets(sites.seals[self._differ(sites.seals)]),
            _offsets(sites.preambles),
        )

    def _windows(self, data: bytearray, size: int) -> npt.NDArray[np.uint8]:
        return np.ndarray((max(len(data) - size + 1, 0), size), np.uint8, data, 0, (1, 1))

    def _differ(self, sites: Numbers) -> npt.NDArray[np.bool_]:
        """Which of some sites, or what is close behind them, are not as expected."""
        last = len(self._found) - _LONGEST
        if last < 0:
            return np.ones(len(sites), bool)
        first = np.minimum(sites, last)
        expected, found = (self._windows(data, _LONGEST)[first] for data in (self._expected, self._found))
        differ: npt.NDArray[np.bool_] = (expected != found).any(axis=1)
        return differ

    def _take(self, sites: Numbers, form: bytes) -> None:
        wanted = np.frombuffer(form, np.uint8)
        there = self._windows(self._found, len(form))[sites]
        fitting = sites[(there == wanted).all(axis=1)]
        self._windows(self._expected, len(form))[fitting] = wanted

    def _take_jumps(self, sites: Numbers, targets: frozenset[int]) -> None:
        there = self._windows(self._found, CALL_SIZE)[sites]
        jumps = there[:, 0] == _JUMP
        if not jumps.any():
            return
        sites, there = sites[jumps], there[jumps]
        distances = np.ascontiguousarray(there[:, 1:]).view("<i4")[:, 0].astype(np.int64)
        leads = (distances + sites + CALL_SIZE).view(np.uint64) + np.uint64(self._vaddr)
        fitting = np.isin(leads, np.array(sorted(targets), np.uint64))
        self._windows(self._expected, CALL_SIZE)[sites[fitting]] = there[fitting]


def _offsets(sites: Numbers) -> array[int]:
    return array("I", sites.tobytes())
