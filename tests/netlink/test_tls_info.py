"""What the kernel keeps of a connection that it encrypts: every cipher, and anything."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.netlink.tls_info import HEAD_SIZE, TlsInfo, parse_tls_info, size_of

SIZES = {51: 40, 52: 56, 53: 40, 54: 56, 55: 40, 56: 40, 57: 40, 58: 56}
"""sizeof(struct tls12_crypto_info_*) by the cipher's number (include/uapi/linux/tls.h)."""


@pytest.mark.parametrize("cipher", SIZES)
def test_each_cipher_has_its_size_and_parts(cipher: int) -> None:
    head = struct.pack("<HH", 0x0304, cipher)
    assert size_of(head) == SIZES[cipher]
    body = bytes(range(SIZES[cipher] - HEAD_SIZE - 8))
    info = parse_tls_info(head + body + struct.pack(">Q", 7))
    assert info.vector + info.key + info.salt == body
    assert (info.version, info.record, len(info.key) in (16, 32)) == ("TLS 1.3", 7, True)
    assert parse_tls_info(head) == TlsInfo("TLS 1.3", info.cipher)
    with pytest.raises(ParseError):
        parse_tls_info(head + body)


def test_what_is_not_known_is_shown_by_its_number() -> None:
    head = struct.pack("<HH", 0x0305, 99)
    assert size_of(head) is None
    assert parse_tls_info(head) == TlsInfo("TLS version 0x0305", "cipher 99")


@given(st.binary(max_size=80))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        assert parse_tls_info(data).cipher
    except ParseError as error:
        assert "struct tls_crypto_info" in str(error)
