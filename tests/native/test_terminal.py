"""What reaches the examiner's terminal."""

from __future__ import annotations

import os
import pty
import sys

import pytest
from generations import Lab
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.native.terminal import TerminalText

IMAGE = "6.12"
PASSES = (
    b"plain text\r\n\ttab\a\b", "caf\u00e9 \u4e2d".encode(),
    b"\x1b[1;31mred\x1b[0m", b"\x1b[H\x1b[2J\x1b[12;40Hx\x1b[K",
    b"\x1b[?1049h\x1b[?25l", b"\x1b(B\x1b7\x1b8", b"\x1b[38:2::1:2:3m",
)  # fmt: skip
STOPPED = (
    b"\x1b]0;title\x07", b"\x1b]52;c;aGk=\x07", b"\x1b[6n", b"\x1b[c", b"\x1b[5i", b"\x1bP+q544e\x1b\\",
    b"\x1b[21t",
    b"\x1bc", b"\x1b_payload\x1b\\", b"\x9b".decode("latin-1").encode() + b"6n", b"\x00\x05", b"\x1b[18t",
)  # fmt: skip


@pytest.mark.parametrize("text", PASSES)
def test_what_programs_need_passes(text: bytes) -> None:
    assert TerminalText().is_clean(text)
    assert TerminalText().shown(text) == text


@pytest.mark.parametrize("text", STOPPED)
def test_what_commands_a_terminal_is_shown_as_text(text: bytes) -> None:
    assert not TerminalText().is_clean(text)
    shown = TerminalText().shown(text + b".")
    assert TerminalText().is_clean(shown) and shown.endswith(b".")


_PIECES = st.sampled_from([*STOPPED, *PASSES, b"\x1b", b"[", b"]", b"6", b"n", b"\xc2", b"x"])


@given(st.lists(_PIECES, max_size=12), st.data())
def test_however_it_is_split(parts: list[bytes], data: st.DataObject) -> None:
    """Sequences that begin in one write and end in the next are stopped, too: each piece is clean by itself,
    so no two of them make a sequence."""
    text = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    terminal = TerminalText()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        assert TerminalText().is_clean(terminal.shown(text[start:end]))


def test_a_program_on_a_terminal(lab: Lab) -> None:
    ours, theirs = pty.openpty()
    pid = os.fork()
    if not pid:
        os.dup2(theirs, 1)
        script = r"printf 'a\033]0;evil\007b\033[1mc\033[0m\n'"
        command = [
            "exec",
            str(lab.sample(IMAGE).dump),
            "--store",
            str(lab.store.root),
            "--",
            "sh",
            "-c",
            script,
        ]
        os.execv(sys.executable, [sys.executable, "-m", "hybridbridge_vol", *command])
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # its other side is closed
        pass
    os.close(ours)
    assert os.waitpid(pid, 0)[1] == 0
    assert shown == b"a^[]0;evil\ab\x1b[1mc\x1b[0m\r\n"
