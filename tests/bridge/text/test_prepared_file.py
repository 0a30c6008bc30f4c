"""The file of what was prepared for a boot: it comes back as it was, or is recognised as damaged."""

from __future__ import annotations

import json
import zlib
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.bridge.text import prepared_file
from hybridbridge_vol.bridge.text.call_hashes import CallHashes
from hybridbridge_vol.bridge.text.cpu_features import FeatureBranches
from hybridbridge_vol.bridge.text.file_system_form import FileSystemForm
from hybridbridge_vol.bridge.text.per_cpu_references import PerCpuText
from hybridbridge_vol.bridge.text.policy import ACTIONS, Trampoline
from hybridbridge_vol.bridge.text.prepared import RELOCATIONS, Prepared
from hybridbridge_vol.bridge.text.prepared_file import FORMAT, dump, parse
from hybridbridge_vol.bridge.text.proxy_task import ProxyTask
from hybridbridge_vol.bridge.text.runtime_constants import RuntimeConstants
from hybridbridge_vol.bridge.text.slab_fields import SlabFields
from hybridbridge_vol.bridge.text.static_keys import JumpLabels
from hybridbridge_vol.bridge.text.twin_text import Sites, Words
from hybridbridge_vol.trust import column_file

u32, u64, byte = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, 255)
signed = st.integers(-(1 << 31), (1 << 31) - 1)
column = st.lists(u32, max_size=6).map(lambda values: array("I", values))


def columns(count: int) -> st.SearchStrategy[list[array[int]]]:
    """So many columns of one length."""
    rows = st.lists(st.tuples(*[u32] * count), max_size=5)
    return rows.map(lambda rows: [array("I", (row[index] for row in rows)) for index in range(count)])


constants = st.lists(st.tuples(u32, byte, u32, byte), max_size=5).map(
    lambda rows: RuntimeConstants(
        *(array(code, (row[index] for row in rows)) for index, code in enumerate("IBIB"))
    )
)

restored = st.lists(st.tuples(u32, byte, u64), max_size=5).map(
    lambda rows: Words(*(array(code, (row[index] for row in rows)) for index, code in enumerate("IBQ")))
)

anything_prepared = st.builds(
    Prepared,
    rodata_end=u32,
    sites=st.tuples(*(st.builds(Sites, column, st.just(s), st.just(w)) for s, w in RELOCATIONS.values())),
    trampolines=st.lists(
        st.builds(Trampoline, u32, st.sampled_from(ACTIONS), signed, st.booleans(), byte, u32), max_size=5
    ),
    unmatched=st.lists(st.text(max_size=5), max_size=3),
    fixups=column,
    warnings=column,
    labels=columns(4).map(lambda parts: JumpLabels(*parts)),
    features=columns(5).map(lambda parts: FeatureBranches(*parts)),
    per_cpu=st.builds(PerCpuText, u32, u32, column, column),
    hashes=st.builds(CallHashes, column, u32, column),
    constants=constants,
    caches=st.lists(u64, max_size=5),
    slab_fields=st.none() | st.builds(SlabFields, st.integers(0, 511), st.integers(0, 511)),
    file_systems=st.builds(FileSystemForm, u32, u32, u32, u32, u32, u32),
    proxy_task=st.builds(ProxyTask, u64, u32, u64, u32, u64, u32, u32),
    restored=restored,
)


def example() -> Prepared:
    """One of everything."""
    one = array("I", [7])
    return Prepared(
        rodata_end=0x2000,
        sites=tuple(Sites(one, step, width) for step, width in RELOCATIONS.values()),
        trampolines=[Trampoline(0x10, "home"), Trampoline(0x20, "return", -5, True, 3, 0x40)],
        unmatched=["nothing.*"],
        fixups=one,
        warnings=one,
        labels=JumpLabels(one, one, one, one),
        features=FeatureBranches(one, one, one, one, one),
        per_cpu=PerCpuText(1, 2, one, one),
        hashes=CallHashes(one, 5, one),
        constants=RuntimeConstants(one, array("B", [8]), one, array("B", [8])),
        caches=[0xFFFF_8000_0000_1000],
        slab_fields=SlabFields(28, 88),
        file_systems=FileSystemForm(1, 2, 3, 4, 5, 6),
        proxy_task=ProxyTask(1, 2, 3, 4, 5, 6, 7),
        restored=Words(one, array("B", [4]), array("Q", [9])),
    )


SAMPLE = dump(example())


def with_checksum(head: Any, numbers: bytes) -> bytes:
    """A file whose checksum is right, whatever it says."""
    body = json.dumps(head).encode() + b"\n" + numbers
    return prepared_file._MAGIC + b"%08x\n" % zlib.crc32(body) + body


def head_and_numbers() -> tuple[dict[str, Any], bytes]:
    """The parts of the sample."""
    head, numbers = column_file.unpack(prepared_file._MAGIC, SAMPLE)
    return head, bytes(numbers)


@given(anything_prepared)
def test_a_file_gives_back_what_was_prepared(prepared: Prepared) -> None:
    assert parse(dump(prepared)) == prepared


@given(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[place] ^= change
    try:
        found = parse(bytes(damaged))
    except ValueError:
        return
    assert found == example()  # a digit of the checksum in the other case


@given(st.integers(0, len(SAMPLE) - 1))
def test_a_truncated_file_is_noticed(size: int) -> None:
    with pytest.raises(ValueError):
        parse(SAMPLE[:size])


@given(st.binary(max_size=200))
def test_noise_is_noticed(data: bytes) -> None:
    for start in (b"", prepared_file._MAGIC, prepared_file._MAGIC + b"00000000\n"):
        with pytest.raises(ValueError):
            parse(start + data)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.data())
def test_a_file_that_says_something_else_is_damaged_and_nothing_worse(data: st.DataObject) -> None:
    """Its checksum is right: somebody wrote it so."""
    head, numbers = head_and_numbers()
    name = data.draw(st.sampled_from(sorted(head)))
    value = data.draw(anything.filter(lambda value: value != head[name]))
    try:
        found = parse(with_checksum(head | {name: value}, numbers))
    except ValueError:
        return
    values = ("rodata_end", "unmatched", "per_cpu", "proxy_task", "slab_fields", "file_systems", "hash_seed")
    assert name in values
    assert isinstance(found, Prepared)


@given(st.data())
def test_a_section_of_another_name_length_or_place_is_damaged(data: st.DataObject) -> None:
    head, numbers = head_and_numbers()
    sections = head["sections"]
    index = data.draw(st.integers(0, len(sections) - 1))
    change = data.draw(st.sampled_from(["name", "longer", "huge", "negative", "left out", "twice"]))
    name, count = sections[index]
    other = {
        "name": [[name + "s", count]],
        "longer": [[name, count + 1]],
        "huge": [[name, 1 << 62]],
        "negative": [[name, -1]],
        "left out": [],
        "twice": [[name, count]] * 2,
    }[change]
    head["sections"] = sections[:index] + other + sections[index + 1 :]
    with pytest.raises(ValueError):
        parse(with_checksum(head, numbers))


def test_an_unknown_action_is_damaged() -> None:
    head, numbers = head_and_numbers()
    at = sum(4 * count for name, count in head["sections"][: len(RELOCATIONS) + 1])  # of 32-bit sections
    assert numbers[at] == ACTIONS.index("home")
    with pytest.raises(ValueError, match="unknown action"):
        parse(with_checksum(head, numbers[:at] + bytes([len(ACTIONS)]) + numbers[at + 1 :]))


def test_another_version_is_not_read() -> None:
    head, numbers = head_and_numbers()
    with pytest.raises(ValueError, match="another version"):
        parse(with_checksum(head | {"format": FORMAT - 1}, numbers))


def test_a_deeply_nested_or_huge_file_is_not_read() -> None:
    with pytest.raises(ValueError, match="nested"):
        parse(prepared_file._MAGIC + b"%08x\n" % zlib.crc32(b"[" * 100_000 + b"\n") + b"[" * 100_000 + b"\n")
    with pytest.raises(ValueError, match="another kind of file"):
        parse(prepared_file._MAGIC + bytes(column_file.MAX_FILE))
