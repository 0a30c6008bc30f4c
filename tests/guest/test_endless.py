"""Answers that do not end: a cyclic list is noticed by its repeating itself, and the next one sooner."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.guest import endless
from hybridbridge_vol.guest.endless import Patience, joined, two_rounds
from hybridbridge_vol.guest.values import EndlessFile

HEAD = b"".join(b"before %d\n" % number for number in range(50))
ROUND = b"".join(b"node %d at ffff%012x\n" % (number, number * 4096) for number in range(40))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are looked at from the beginning."""
    monkeypatch.setattr(endless, "LONG_SECONDS", 0.0)


def circle() -> Iterator[bytes]:
    yield HEAD
    while True:
        yield ROUND[: len(ROUND) // 2]
        yield ROUND[len(ROUND) // 2 :]


@pytest.mark.usefixtures("at_once")
def test_a_cyclic_list_is_given_up_after_some_rounds_with_two_of_them() -> None:
    given_out = 0

    def counted() -> Iterator[bytes]:
        nonlocal given_out
        for part in circle():
            given_out += len(part)
            yield part

    with pytest.raises(EndlessFile) as raised:
        joined("/proc/modules", counted(), Patience())
    assert raised.value.partial == HEAD + 2 * ROUND
    assert given_out <= len(HEAD) + 8 * len(ROUND)


@pytest.mark.usefixtures("at_once")
def test_what_ends_is_given_whole() -> None:
    parts = [HEAD, ROUND, ROUND, *(b"line %d\n" % number for number in range(1000))]
    assert joined("/proc/x", iter(parts), Patience()) == b"".join(parts)


@pytest.mark.usefixtures("at_once")
def test_a_table_of_equal_numbers_is_no_circle() -> None:
    parts = [bytes(4096)] * 50 + [b"\1\0\0\0\0\0\0\0" * 512] * 50
    assert joined("/proc/kpagecount", iter(parts), Patience()) == b"".join(parts)


def test_an_answer_that_repeats_itself_is_not_looked_at_before_it_is_long() -> None:
    assert joined("/proc/1/environ", iter([ROUND] * 100), Patience()) == ROUND * 100


@given(
    st.binary(max_size=700), st.binary(min_size=32, max_size=900), st.integers(3, 9), st.binary(max_size=40)
)
def test_two_rounds_are_what_came_before_the_third(
    head: bytes, circle: bytes, rounds: int, begun: bytes
) -> None:
    data = head + circle * rounds + circle[: len(begun)]
    size = two_rounds(data)
    if size is None:  # too short to be looked for, or made of shorter rounds
        assert len(circle) * (rounds - 1) < 512 + len(circle) or len(set(circle)) < len(circle)
    else:
        assert size <= len(head) + 2 * len(circle)
        kept = data[:size]
        period = next(p for p in range(32, len(kept)) if data[-2 * p :] == data[-3 * p : -p])
        assert all(data[at] == data[at - period] for at in range(size - period, len(data)))


def test_each_answer_that_does_not_end_halves_the_time_of_the_next() -> None:
    patience, under_taint = Patience(), Patience(under_taint=True)
    waits = []
    for _ in range(6):
        waits.append(patience.seconds)
        patience.lost()
    assert waits == [20.0, 10.0, 5.0, 2.5, 2.0, 2.0]
    assert under_taint.seconds == 80.0
