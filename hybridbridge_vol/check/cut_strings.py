"""Constant strings that a kernel cuts into words, in their place, while it boots.

Before `.rodata` is made read-only, `__check_quirks_intel` gives a constant list of options to
`set_rdt_options`, which takes it apart by strsep(): each comma becomes the end of a string
(arch/x86/kernel/cpu/resctrl/core.c, since 4.14; on Intel's server processors from Skylake to Ice Lake).
"""

from __future__ import annotations

import re

_OPTIONS = re.compile(rb"!cmt(?:,![a-z0-9]+)+\0")
_COMMA, _END = ord(","), 0


def accept_cut_strings(expected: bytearray, found: bytes | bytearray, start: int, end: int) -> None:
    """Take over into `expected` the commas of such lists, between the offsets, that became ends."""
    for match in _OPTIONS.finditer(expected, start, end):
        for at in range(match.start(), min(match.end(), len(found))):
            if expected[at] == _COMMA and found[at] == _END:
                expected[at] = _END
