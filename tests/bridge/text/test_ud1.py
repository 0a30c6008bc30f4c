"""The length of `ud1`, with its operands, which are never executed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.bridge.text.ud1 import ud1_size


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("0fb9c0", 3),  # ud1 eax, eax
        ("67480fb93a", 5),  # ud1 rdi, [edx]: what stands for WARN in 7.x
        ("0fb97a10", 4),  # a displacement of 8 bits
        ("0fb9ba00010000", 7),  # of 32 bits
        ("0fb93d00010000", 7),  # relative to RIP
        ("0fb93c08", 4),  # an index
        ("0fb93c2500010000", 8),  # an absolute address
        ("0f0b", 0),
        ("90", 0),
        ("0fb9", 0),
        ("", 0),
    ],
)
def test_the_size_of_ud1(code: str, size: int) -> None:
    assert ud1_size(bytes.fromhex(code)) == size
    if size:
        assert ud1_size(bytes.fromhex(code) + b"\x90\x90") == size
        assert ud1_size(bytes.fromhex(code)[:-1]) == 0


@given(st.binary(max_size=24))
def test_it_is_never_longer_than_the_code_given(code: bytes) -> None:
    assert 0 <= ud1_size(code) <= len(code)
