"""The memory of a program's thread: read and written only while the thread waits for its answer."""

from __future__ import annotations

import ctypes
import errno
import os

import pytest

from hybridbridge_vol.native.program_memory import ThreadMemory


def test_memory_of_a_thread_that_waits() -> None:
    buffer = ctypes.create_string_buffer(b"before", 16)
    memory = ThreadMemory(os.getpid(), lambda: True)
    assert memory.read(ctypes.addressof(buffer), 6) == b"before"
    memory.write(ctypes.addressof(buffer), b"after!")
    assert buffer.value == b"after!"


def test_memory_of_whoever_has_the_number_now_is_left_alone() -> None:
    buffer = ctypes.create_string_buffer(b"before", 16)
    memory = ThreadMemory(os.getpid(), lambda: False)
    with pytest.raises(OSError) as error:
        memory.write(ctypes.addressof(buffer), b"after!")
    assert error.value.errno == errno.ESRCH and buffer.value == b"before"
    with pytest.raises(OSError) as error:
        memory.read(ctypes.addressof(buffer), 6)
    assert error.value.errno == errno.ESRCH
