"""Code of the vDSO that a kernel replaces when it boots: by one of several alternatives, with nops behind."""

from __future__ import annotations

import pytest

from hybridbridge_vol.check.vdso_images import VdsoImage, is_filled_up

RDTSC, LFENCE_RDTSC, RDTSCP = (bytes.fromhex(code) for code in ("0f31909090", "0faee80f31", "0f01f9"))
IMAGE = VdsoImage("vdso_image_64", 2, 16, {4: (5, (LFENCE_RDTSC, RDTSCP))})
"""rdtsc_ordered() of arch/x86/include/asm/msr.h."""
AT = 2 + 4


def text(code: bytes) -> bytearray:
    return bytearray(AT) + code + bytes(12 - len(code))


@pytest.mark.parametrize("code", [RDTSC, LFENCE_RDTSC, RDTSCP + b"\x66\x90", RDTSCP + b"\x90\x90"])
def test_each_alternative_may_stand_there(code: bytes) -> None:
    expected = text(RDTSC)
    IMAGE.accept(expected, text(code))
    assert expected == text(code)


@pytest.mark.parametrize("code", [RDTSCP + b"\xcc\x90", RDTSCP + b"\x90\xc3", b"\xe9" + bytes(4)])
def test_nothing_else_may(code: bytes) -> None:
    expected = text(RDTSC)
    IMAGE.accept(expected, text(code))
    assert expected == text(RDTSC)


def test_what_is_shorter_than_a_replacement_is_not_that_replacement() -> None:
    assert not is_filled_up(b"\x0f", RDTSCP) and is_filled_up(b"", b"")
