"""Constant strings that a kernel splits into words, in place, while it boots.

Before `.rodata` is made read-only, `__check_quirks_intel` passes a constant list of options to
`set_rdt_options`, which splits it with strsep(): each comma becomes a terminating zero
(arch/x86/kernel/cpu/resctrl/core.c, since 4.14; on Intel's server processors from Skylake to Ice Lake).
"""

from __future__ import annotations

import re

_OPTIONS = re.compile(rb"!cmt(?:,![a-z0-9]+)+\0")
_COMMA, _END = ord(","), 0


def accept_cut_strings(expected: bytearray, found: bytes | bytearray, start: int, end: int) -> None:
    """In `expected`, between the offsets, end such strings where `found` has a zero instead of a comma."""
    for match in _OPTIONS.finditer(expected, start, end):
        for at in range(match.start(), min(match.end(), len(found))):
            if expected[at] == _COMMA and found[at] == _END:
                expected[at] = _END
