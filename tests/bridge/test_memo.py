"""The memo: a set of proven code, what it makes of the twin's pages, and its file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.memo_file import FORMAT, dump, parse
from hybridbridge_vol.errors import MemoError

KEY = MemoKey("abcdef", "policy", "6.1.0-test")
PAGE = 4096
INT3 = 0xCC

Ranges = list[tuple[int, int]]

near = st.integers(0, 200)
ranges = st.lists(st.tuples(near, near), max_size=12)
fields = st.sets(near, max_size=6)


def a_memo(proven: Ranges, trusted: set[int] | None = None, key: MemoKey = KEY) -> Memo:
    memo = Memo(key)
    memo.text.add(proven, trusted or ())
    return memo


def covered(proven: Ranges) -> set[int]:
    return {offset for start, end in proven for offset in range(start, end)}


def contents(memo: Memo) -> tuple[Ranges, AbstractSet[int]]:
    return list(memo.text.ranges()), memo.text.trusted


def module_contents(memo: Memo) -> dict[str, tuple[Ranges, AbstractSet[int]]]:
    return {name: (list(part.ranges()), part.trusted) for name, part in memo.modules.items() if part}


# --- a set ------------------------------------------------------------------------------------------------


@given(ranges, ranges, fields, fields)
def test_adding_is_the_union_of_sets_of_bytes(
    first: Ranges, second: Ranges, one: set[int], other: set[int]
) -> None:
    memo = a_memo(first, one)
    memo.text.add(second, other)
    assert covered(list(memo.text.ranges())) == covered(first) | covered(second)
    assert memo.text.trusted == one | other
    assert len(memo) == len(covered(first) | covered(second))


@given(ranges)
def test_ranges_are_kept_ascending_and_disjoint(proven: Ranges) -> None:
    kept = list(a_memo(proven).text.ranges())
    edges = [edge for pair in kept for edge in pair]
    assert edges == sorted(set(edges))


@given(ranges, ranges, fields, fields)
def test_merging_is_commutative_and_idempotent(
    first: Ranges, second: Ranges, one: set[int], other: set[int]
) -> None:
    ab, ba = a_memo(first, one), a_memo(second, other)
    ab.merge(a_memo(second, other))
    ba.merge(a_memo(first, one))
    assert contents(ab) == contents(ba)
    ab.mark_stored()
    ab.merge(ba)
    assert contents(ab) == contents(ba)
    assert not ab.changed


@given(ranges, near, near)
def test_a_range_is_covered_if_each_of_its_bytes_is(proven: Ranges, start: int, size: int) -> None:
    end = start + size + 1
    assert a_memo(proven).text.covers(start, end) == (set(range(start, end)) <= covered(proven))


def test_a_memo_knows_whether_it_has_grown() -> None:
    memo = a_memo([])
    assert not memo.changed
    memo.text.add([(5, 5)])
    assert not memo.changed
    memo.text.add([(5, 6)])
    assert memo.changed
    memo.mark_stored()
    memo.text.add([(5, 6)])
    assert not memo.changed
    memo.text.add([], [7])
    assert memo.changed


@pytest.mark.parametrize("change", [{"build_id": "other"}, {"policy": "other"}])
def test_memos_of_another_kernel_or_policy_are_not_merged(change: dict[str, Any]) -> None:
    with pytest.raises(MemoError, match=r"6\.1\.0-test"):
        a_memo([], key=replace(KEY, **change)).merge(a_memo([(1, 2)]))


def test_the_release_is_not_compared() -> None:
    memo = a_memo([], key=replace(KEY, release="another name of it"))
    memo.merge(a_memo([(1, 2)]))
    assert len(memo) == 1


def test_modules_are_kept_by_name_and_build_and_merged_alike() -> None:
    one, other = a_memo([(1, 2)]), a_memo([(1, 3)])
    one.of_module("loop", "11").add([(1, 5)], [2])
    other.of_module("loop", "11").add([(4, 9)], [3])
    other.of_module("loop", "22").add([(7, 8)])
    one.merge(other)
    assert contents(one) == ([(1, 3)], set())
    assert module_contents(one) == {"loop:11": ([(1, 9)], {2, 3}), "loop:22": ([(7, 8)], set())}
    assert module_contents(parse(dump(one), "a file")) == module_contents(one)
    assert len(one) == 2 + 8 + 1


# --- the twin's pages -------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 3 * PAGE), st.integers(1, 2 * PAGE)), max_size=8),
    st.sampled_from([0, PAGE, 2 * PAGE]),
)
def test_a_masked_page_holds_what_is_proven_and_int3_elsewhere(pieces: Ranges, offset: int) -> None:
    """Also where a proven range begins on the page before, or goes on behind."""
    proven = [(start, start + size) for start, size in pieces]
    page = bytes(1 + i % 100 for i in range(PAGE))
    masked = a_memo(proven).text.masked(offset, page)
    inside = covered(proven)
    assert masked == bytes(page[i] if offset + i in inside else INT3 for i in range(PAGE))


# --- the file ---------------------------------------------------------------------------------------------


@given(ranges, st.sets(st.integers(0, (1 << 32) - 1), max_size=6))
def test_a_file_gives_the_memo_back(proven: Ranges, trusted: set[int]) -> None:
    memo = a_memo(proven, trusted)
    back = parse(dump(memo), "a file")
    assert contents(back) == contents(memo)
    assert (back.key, back.key.release) == (KEY, KEY.release)
    assert not back.changed


SAMPLE = dump(a_memo([(0x1000, 0x1010), (0x2000, 0x2345)], {0x1004, 0x2222}))


@given(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[place] ^= change
    try:
        memo = parse(bytes(damaged), "a file")
    except MemoError as error:
        assert str(error).startswith("a file: ")
        assert "\n" not in str(error)
    else:  # a digit of the checksum in the other case
        assert contents(memo) == contents(parse(SAMPLE, "a file"))


@given(st.integers(0, len(SAMPLE) - 1))
def test_a_truncated_file_is_noticed(size: int) -> None:
    with pytest.raises(MemoError, match="^a file: "):
        parse(SAMPLE[:size], "a file")


@given(st.binary(max_size=200))
def test_a_file_that_is_not_a_memo_is_reported(data: bytes) -> None:
    for start in (b"", memo_file._MAGIC, memo_file._MAGIC + b"00000000\n"):
        with pytest.raises(MemoError, match="^a file: "):
            parse(start + data, "a file")


def with_checksum(body: bytes) -> bytes:
    """A file whose checksum is right, whatever it says."""
    return memo_file._MAGIC + b"%08x\n" % zlib.crc32(body) + body


def head(**changes: Any) -> bytes:
    record = {"format": FORMAT, "build_id": "b", "policy": "p", "release": "r", "texts": [["", 1, 1]]}
    return json.dumps({**record, **changes}).encode()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(
    st.one_of(
        st.binary(max_size=50),
        anything.map(lambda value: json.dumps(value).encode()),
        st.sampled_from(["format", "build_id", "policy", "release", "texts"]).flatmap(
            lambda name: anything.map(lambda value: head(**{name: value}))
        ),
    ),
    st.binary(max_size=24) | st.just(bytes(12)),
)
def test_a_hostile_file_gives_a_memo_or_one_line(first_line: bytes, numbers: bytes) -> None:
    try:
        memo = parse(with_checksum(first_line + b"\n" + numbers), "a file")
    except MemoError as error:
        assert str(error).startswith("a file: ")
        assert "\n" not in str(error)
    else:
        assert isinstance(memo.key.build_id, str)
        assert isinstance(memo.key.policy, str)
        assert isinstance(memo.key.release, str)
        assert len(memo) >= 0


def test_a_deeply_nested_file_is_reported() -> None:
    with pytest.raises(MemoError, match="corrupt"):
        parse(with_checksum(b"[" * 100_000), "a file")


def test_another_format_is_named() -> None:
    with pytest.raises(
        MemoError, match=rf"^a file: a memo of format {FORMAT + 1}; this program uses {FORMAT}$"
    ):
        parse(with_checksum(head(format=FORMAT + 1) + b"\n" + bytes(12)), "a file")
