"""A guest whose kernel encrypts TLS for a process (kernel TLS), and the keys that the process gave it."""

from __future__ import annotations

from pathlib import Path

import own_guest

PROGRAM = Path(__file__).parent / "guest" / "tls.c"
MODULES = (
    "tls",
    "aes_generic",
    "ctr",
    "ghash_generic",
    "gcm",
    "chacha",
    "chacha_generic",
    "poly1305_generic",
    "chacha20poly1305",
)
AES_GCM_128, AES_GCM_256, CHACHA20_POLY1305 = 51, 52, 54


def given(cipher: int, first: int, size: int) -> str:
    """Some of what the process has given for a cipher, in hexadecimal: bytes of its structure from `first`
    on (guest/tls.c, `give_keys`)."""
    return bytes(cipher + at & 0xFF for at in range(first, first + size)).hex()


def image_of(kernel: str) -> Path:
    """The guest's memory, made only once; `kernel` as `samples.kernels.fetch` takes it."""
    return own_guest.image_of("tls", kernel, PROGRAM, MODULES)
