"""The state that the kernel's own variables name."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.snapshot.machine_state import NORMAL, MachineState, read_state, running_constant

CODE, VARIABLE = 0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8200_0000
NORMALLY = {"panic_cpu": 0xFFFFFFFF, "crashing_cpu": 0xFFFFFFFF, "elfcorehdr_addr": (1 << 64) - 1}


def state_of(running: int | None = 3, **variables: int) -> MachineState:
    values = NORMALLY | variables
    return read_state(lambda symbol, _size: values.get(symbol), running)


def store(offset: int, constant: int, variable: int = VARIABLE) -> bytes:
    """`movl $constant, variable(%rip)` at an offset of the code."""
    return b"\xc7\x05" + struct.pack("<iI", variable - (CODE + offset + 10), constant)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "booting: the kernel had not yet started its first process"),
        (2, "booting: the kernel had not yet started its first process"),
        (3, "running"), (4, "halted"), (5, "powering off"), (6, "restarting"), (7, "suspended"),
        (8, "unknown"),
    ],
)  # fmt: skip
def test_system_state_in_words(value: int, words: str) -> None:
    assert str(state_of(system_state=value)) == words


def test_panic_kdump_and_kexec_in_words() -> None:
    assert state_of(system_state=3) == NORMAL
    assert str(state_of(system_state=3, panic_cpu=1)) == "panicked on CPU 1"
    crashed = state_of(system_state=3, panic_cpu=1, crashing_cpu=1)
    assert str(crashed) == "crashed on CPU 1, which started the capture kernel of kdump"
    assert crashed.has_ended
    left = state_of(system_state=6, kexec_in_progress=1)
    assert str(left) == "ended by kexec, which started another kernel"
    capture = state_of(system_state=3, elfcorehdr_addr=0x1000)
    assert str(capture) == "running, as the capture kernel of kdump" and not capture.has_ended


def test_a_kernel_without_these_variables_is_in_an_unknown_state() -> None:
    assert str(read_state(lambda _symbol, _size: None, None)) == "unknown"
    assert str(state_of(None, system_state=2)) == "unknown"


def test_the_constant_for_running_is_the_largest_that_the_code_stores() -> None:
    code = store(0, 2) + b"\x90" * 3 + store(13, 3) + store(23, 9, VARIABLE + 4) + b"\xc7\x05"
    assert running_constant(code, CODE, VARIABLE) == 3
    assert running_constant(code, CODE, VARIABLE - 4) is None
    assert running_constant(b"", 0, 0) is None


@given(st.binary(max_size=64))
def test_any_code_has_a_constant_or_none(code: bytes) -> None:
    found = running_constant(code, CODE, VARIABLE)
    assert found is None or 0 <= found < 1 << 32
