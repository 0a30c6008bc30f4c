"""The checksum of a whole image."""

from __future__ import annotations

import hashlib


def sha256_of(path: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
