"""What the kernel keeps of a connection that it encrypts (struct tls12_crypto_info_*,
include/uapi/linux/tls.h): version and cipher, then initialization vector, key, salt and the number of the
next record."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError

HEAD_SIZE = 4
"""Bytes of struct tls_crypto_info."""
_RECORD_SIZE = 8


class _Cipher(NamedTuple):
    """Its name, and bytes of the initialization vector, the key and the salt."""

    name: str
    vector: int
    key: int
    salt: int


_CIPHERS = {
    51: _Cipher("AES-GCM-128", 8, 16, 4), 52: _Cipher("AES-GCM-256", 8, 32, 4),
    53: _Cipher("AES-CCM-128", 8, 16, 4), 54: _Cipher("CHACHA20-POLY1305", 12, 32, 0),
    55: _Cipher("SM4-GCM", 8, 16, 4), 56: _Cipher("SM4-CCM", 8, 16, 4),
    57: _Cipher("ARIA-GCM-128", 8, 16, 4), 58: _Cipher("ARIA-GCM-256", 8, 32, 4),
}  # fmt: skip
_VERSIONS = {0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}


class TlsInfo(NamedTuple):
    """`version` and `cipher` in words; the rest is empty of a cipher that is not known here. `record` is the
    number of the next record."""

    version: str
    cipher: str
    vector: bytes = b""
    key: bytes = b""
    salt: bytes = b""
    record: int = 0


def size_of(head: bytes) -> int | None:
    """Bytes of the whole structure that begins so; None for a cipher that is not known here."""
    cipher = _CIPHERS.get(_numbers(head)[1])
    return None if cipher is None else HEAD_SIZE + cipher.vector + cipher.key + cipher.salt + _RECORD_SIZE


def parse_tls_info(data: bytes) -> TlsInfo:
    """The structure, or its head only. ParseError."""
    version, number = _numbers(data)
    cipher = _CIPHERS.get(number)
    version_name = _VERSIONS.get(version, f"TLS version {version:#06x}")
    if cipher is None or len(data) == HEAD_SIZE:
        return TlsInfo(version_name, cipher.name if cipher else f"cipher {number}")
    if len(data) != size_of(data):
        raise ParseError(f"struct tls_crypto_info: {len(data)} bytes for {cipher.name}")
    parts = struct.unpack(f">{HEAD_SIZE}x{cipher.vector}s{cipher.key}s{cipher.salt}sQ", data)
    return TlsInfo(version_name, cipher.name, *parts)


def _numbers(head: bytes) -> tuple[int, int]:
    if len(head) < HEAD_SIZE:
        raise ParseError(f"struct tls_crypto_info: {len(head)} bytes")
    version, cipher = struct.unpack_from("<HH", head)
    return version, cipher
