"""What a kernel that can choose FineIBT makes of the checks of its indirect calls, and what it never does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.check.call_checks import AS_LINKED, FINE, PARANOID, SKIPPED, CallChecks, Templates

ENDBR, SEAL = bytes.fromhex("f30f1efa"), bytes.fromhex("0f1f40d6")
KERNEL = {
    "fineibt_preamble_start": bytes.fromhex("f30f1efa 4181ea78563412 7402 0f0b 90"),
    "fineibt_caller_start": bytes.fromhex("41ba78563412 4983eb10 0f1f4000"),
}
"""The templates of 6.12."""
LATER = {
    "fineibt_preamble_start": bytes.fromhex("f30f1efa 2d78563412 2e0f8503000000 0f1f40d6"),
    "fineibt_caller_start": bytes.fromhex("b878563412 4d8d5bf0 0f1f440000"),
    "fineibt_paranoid_start": bytes.fromhex("b878563412 413b43f5 2e4d8d5bf0 75fd"),
}
"""Those of 7.2; the last without the indirect branch behind it."""
HASHES = {0x00: 0x11223344, 0x40: 0xA1B2C3D4, 0x80: 0x0BADF00D, 0xC0: 0x00C0FFEE, 0x100: 0x12121212}
"""By the offset of a preamble; the function is behind it, and has a call of what has the same hash. No
pointer leads to the last one, so it is sealed."""
PREAMBLES = tuple(HASHES)
FUNCTIONS = tuple(at + 16 for at in HASHES)
CALLS = {at + 0x2E: number for at, number in HASHES.items()}
LAST = 0x100
SEALED = frozenset([LAST + 16])
SEED = 0x5EED5EED
SIZE = 0x140


def bytes_of(number: int) -> bytes:
    """32 bits."""
    return (number & 0xFFFFFFFF).to_bytes(4, "little")


def put(text: bytearray, pieces: Mapping[int, bytes]) -> bytearray:
    """The text with these bytes."""
    for at, piece in pieces.items():
        text[at : at + len(piece)] = piece
    return text


def caller(number: int, begin: bytes = b"\x41\xba") -> bytes:
    """kCFI's check of a hash, and the call."""
    return begin + bytes_of(-number) + bytes.fromhex("450353f1 7402 0f0b") + b"\xe8\0\0\0\0"


def linked() -> bytearray:
    """Five functions."""
    preambles = {at: b"\xb8" + bytes_of(number) + b"\x90" * 11 for at, number in HASHES.items()}
    calls = {call - 14: caller(number) for call, number in CALLS.items()}
    return put(bytearray(SIZE), {**preambles, **calls, **dict.fromkeys(FUNCTIONS, ENDBR)})


def kept(seed: int) -> bytearray:
    """Only the hashes are others."""
    preambles = {at + 1: bytes_of(number ^ seed) for at, number in HASHES.items()}
    calls = {call - 12: bytes_of(-(number ^ seed)) for call, number in CALLS.items()}
    return put(linked(), {**preambles, **calls, LAST + 1: bytes(4)})


def skipped() -> bytearray:
    """`cfi=off`."""
    return put(linked(), {call - 14: b"\xeb\x0c" for call in CALLS})


def fine(seed: int) -> bytearray:
    """FineIBT."""
    template, check = KERNEL["fineibt_preamble_start"], KERNEL["fineibt_caller_start"]
    preambles = {at: template[:7] + bytes_of(number ^ seed) + template[11:] for at, number in HASHES.items()}
    calls = {call - 14: check[:2] + bytes_of(number ^ seed) + check[6:] for call, number in CALLS.items()}
    text = put(linked(), {**preambles, **calls, **dict.fromkeys(FUNCTIONS, SEAL)})
    return put(text, {LAST: SEAL, LAST + 7: bytes(4)})


def later(seed: int, paranoid: bool, branch: bytes = b"\x2e\x41\xff\xd3") -> bytearray:
    """FineIBT of 7.2: the preamble has the function's `endbr64`, too; one function that has none keeps its
    preamble. `branch`: the call behind a paranoid check."""
    template = LATER["fineibt_preamble_start"]
    check = LATER["fineibt_paranoid_start" if paranoid else "fineibt_caller_start"]
    branch = branch if paranoid else b""
    text = put(linked(), dict.fromkeys(FUNCTIONS, SEAL))
    for at, number in HASHES.items():
        put(text, {at: template[:5] + bytes_of(number ^ seed) + template[9:]})
    for call, number in CALLS.items():
        put(text, {call - 14: check[:1] + bytes_of(number ^ seed) + check[5:] + branch})
    return put(text, {LAST: SEAL, LAST + 5: bytes(4)})


def explained(found: bytearray, kernel: Mapping[str, bytes] = KERNEL) -> tuple[bytearray, CallChecks]:
    """The text expected where this one was found, and what the kernel chose by that."""
    expected = linked()
    templates = Templates.of(lambda first, _last: kernel.get(first))
    checks = CallChecks.of(templates, expected, found, PREAMBLES, CALLS)
    checks.accept(expected, found, PREAMBLES, CALLS, SEALED)
    return expected, checks


@pytest.mark.parametrize(
    ("found", "choice", "seed"),
    [
        (kept(0), AS_LINKED, 0),
        (kept(SEED), AS_LINKED, SEED),
        (skipped(), SKIPPED, 0),
        (fine(0), FINE, 0),
        (fine(SEED), FINE, SEED),
    ],
)
def test_what_the_kernel_makes_of_all_its_checks_is_expected(
    found: bytearray, choice: str, seed: int
) -> None:
    expected, checks = explained(found)
    assert (checks.choice, checks.seed) == (choice, seed)
    assert expected == found


@pytest.mark.parametrize(("paranoid", "choice"), [(False, FINE), (True, PARANOID)])
def test_what_a_later_kernel_makes_of_all_its_checks_is_expected(paranoid: bool, choice: str) -> None:
    found = later(SEED, paranoid)
    expected, checks = explained(found, LATER)
    assert (checks.choice, checks.seed) == (choice, SEED)
    assert expected == found
    for change in ({0x2E - 13: bytes(4)}, {0x09: b"\x2e\xe9"}, {0x10: b"\xc3"}):
        there = put(bytearray(found), change)
        assert explained(there, LATER)[0] != there


@pytest.mark.parametrize("branch", ["41ffd390", "2e41ffd3", "41ffe3cc"])
def test_the_call_behind_a_paranoid_check_is_filled_up(branch: str) -> None:
    found = later(SEED, paranoid=True, branch=bytes.fromhex(branch))
    assert explained(found, LATER)[0] == found


@pytest.mark.parametrize("begin", [0x90909090, 0xE5894855])
def test_a_later_kernel_keeps_the_preamble_of_a_function_that_no_indirect_call_reaches(begin: int) -> None:
    found = later(SEED, paranoid=False)
    preamble = b"\xb8" + bytes_of(HASHES[0x40] ^ SEED) + b"\x90" * 11 + bytes_of(begin)
    put(found, {0x40: preamble})
    expected = put(linked(), {0x50: bytes_of(begin)})
    templates = Templates.of(lambda first, _last: LATER.get(first))
    checks = CallChecks.of(templates, expected, found, PREAMBLES, CALLS)
    checks.accept(expected, found, PREAMBLES, CALLS, SEALED)
    assert expected == found


@pytest.mark.parametrize(("found", "at"), [(kept(SEED), LAST + 1), (fine(SEED), LAST + 7)])
def test_a_sealed_function_without_a_preamble_loses_padding(found: bytearray, at: int) -> None:
    """Functions of assembly: `poison_hash` does not look at what is there."""
    padding = b"\x90" * 16
    expected, there = (put(text, {LAST: padding}) for text in (linked(), bytearray(found)))
    put(there, {at: bytes(4)})
    checks = explained(found)[1]
    checks.accept(expected, there, PREAMBLES, CALLS, SEALED)
    assert expected == there
    put(there, {at: b"\1\0\0\0"})
    checks.accept(expected, there, PREAMBLES, CALLS, SEALED)
    assert expected != there


@pytest.mark.parametrize(
    ("found", "change"),
    [
        (kept(SEED), {0x2E - 14: b"\xeb\x0c"}),  # one check is jumped over
        (kept(SEED), {0x01: bytes(4)}),  # a function that pointers lead to has no hash
        (kept(SEED), {0x41: bytes_of(HASHES[0] ^ SEED)}),  # a function is said to be of another type
        (fine(SEED), {0x0B: b"\xeb"}),  # one preamble lets all callers in
        (fine(SEED), {0x00: SEAL}),
        (fine(SEED), {0x2E - 12: bytes_of(HASHES[0x40] ^ SEED)}),
    ],
)
def test_one_check_that_is_another_than_the_kernel_makes_it_is_a_difference(
    found: bytearray, change: dict[int, bytes]
) -> None:
    there = put(bytearray(found), change)
    expected, _checks = explained(there)
    (at,) = change
    assert expected[at : at + len(change[at])] != there[at : at + len(change[at])]


def test_a_kernel_without_templates_never_chose_fineibt() -> None:
    expected, found = linked(), fine(SEED)
    checks = CallChecks.of(Templates.of(lambda *_names: None), expected, found, PREAMBLES, CALLS)
    checks.accept(expected, found, PREAMBLES, CALLS, SEALED)
    assert checks.choice == AS_LINKED
    assert expected == linked()


def test_a_hash_that_would_look_like_endbr64_is_shifted() -> None:
    """`cfi_rehash`; 0xFA1E0FF3 is odd."""
    seed = HASHES[0] ^ 0xFA1E0FF3
    found = kept(seed)
    shifted = (0xFA1E0FF3 >> 1) ^ 0x80200003
    put(found, {0x01: bytes_of(shifted), 0x2E - 12: bytes_of(-shifted)})
    expected, _checks = explained(found)
    assert expected == found


@given(st.binary(max_size=64), st.lists(st.integers(0, 80)), st.lists(st.integers(0, 80)))
def test_any_bytes_are_compared(found: bytes, preambles: list[int], calls: list[int]) -> None:
    text = bytearray(64)
    templates = Templates.of(lambda first, _last: KERNEL.get(first))
    CallChecks.of(templates, text, found, preambles, calls).accept(text, found, preambles, calls, SEALED)
    assert len(text) == 64
