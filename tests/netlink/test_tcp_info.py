"""struct tcp_info and the memory of sockets, in the words of ss."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.netlink.tcp_info import memory_words, tcp_words


def test_a_listening_socket_has_a_congestion_window_and_little_else() -> None:
    info = bytearray(240)
    struct.pack_into("<B", info, 0, 10)
    struct.pack_into("<I", info, 28, 16)  # sacked: of a listening socket, how many connections may wait
    struct.pack_into("<I", info, 80, 10)
    struct.pack_into("<I", info, 88, 3)
    assert tcp_words(bytes(info), "cubic") == "cubic cwnd:10"


def test_fields_that_an_older_kernel_does_not_have_are_left_out() -> None:
    info = bytes([1, 0, 0, 0, 0, 7, 0x75, 0]) + struct.pack("<I", 204_000) + bytes(92)
    assert tcp_words(info[:104], "") == "ts sack wscale:5,7 rto:204 reordering:0"
    assert tcp_words(info[:104] + bytes(500), "") == tcp_words(info[:104], "")


def test_memory_is_named_as_ss_does() -> None:
    assert memory_words(struct.pack("<9I", *range(9))) == "r0,rb1,t2,tb3,f4,w5,o6,bl7,d8"
    assert memory_words(struct.pack("<8I", *range(8))) == "r0,rb1,t2,tb3,f4,w5,o6,bl7"  # before 4.7
    with pytest.raises(ValueError):
        memory_words(bytes(31))


@given(st.binary(max_size=300), st.text(max_size=20))
def test_any_bytes_are_words_or_refused(data: bytes, name: str) -> None:
    for form in (memory_words, lambda given: tcp_words(given, name)):
        with contextlib.suppress(ValueError):
            assert form(data) is not None
