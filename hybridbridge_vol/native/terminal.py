"""What a program writes to the examiner's terminal: text of the image must not command it.

Colours, and moving and erasing within the screen, which full-screen programs need, pass. Everything that
makes a terminal answer, set its title or clipboard, change its keys or print does not: the escape is shown as
`^[`.
"""

from __future__ import annotations

import re

_HARMLESS = re.compile(
    rb"\x1b\[[?>!]?[0-9;:]*[ABCDEFGHJKLMPSTXZ@`abdefghlmrsu]"  # CSI: cursor, erasing, modes, colours, margins
    rb"|\x1b[()*+][0-9A-B]"  # character sets
    rb"|\x1b[=>78MDEH]"  # keypad, saving the cursor, lines, tabs
)
_CONTROLS = re.compile(rb"[\x00-\x06\x0b\x0c\x10-\x1b\x1c-\x1f\x7f]|\xc2[\x80-\x9f]")
"""Those that text does not need; the C1 controls as UTF-8 has them. BEL, BS, TAB, LF, CR, SO and SI pass."""
_UNFINISHED = re.compile(rb"\x1b(?:\[[?>!]?[0-9;:]{0,64}|[()*+])?\Z|\xc2\Z")
"""What may go on with the next write."""


class TerminalText:
    """The text of one program, write by write."""

    def __init__(self) -> None:
        self._held = b""

    def is_clean(self, data: bytes) -> bool:
        """Whether all of it may be written as it is."""
        return not self._held and _CONTROLS.search(_HARMLESS.sub(b"", data)) is None

    def shown(self, data: bytes) -> bytes:
        """What is to be written instead; the beginning of a sequence waits for its end."""
        data = self._held + data
        unfinished = _UNFINISHED.search(data)
        self._held = b"" if unfinished is None else data[unfinished.start() :]
        data = data[: len(data) - len(self._held)]
        parts, at = [], 0
        for found in _HARMLESS.finditer(data):
            parts += [_CONTROLS.sub(_caret, data[at : found.start()]), found[0]]
            at = found.end()
        return b"".join([*parts, _CONTROLS.sub(_caret, data[at:])])


def _caret(found: re.Match[bytes]) -> bytes:
    """A control as cat -v shows it."""
    code = found[0][-1]
    if len(found[0]) == 2:
        return b"M-^" + bytes([code - 0x40])
    return b"^" + bytes([code ^ 0x40])
