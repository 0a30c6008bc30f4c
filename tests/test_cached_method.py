"""A method whose answers are kept with its object."""

from __future__ import annotations

import gc
import weakref

from hybridbridge_vol.cached_method import cached_method


class Doubler:
    def __init__(self) -> None:
        self.asked: list[int] = []

    @cached_method
    def twice(self, number: int) -> int:
        """The number, doubled."""
        self.asked.append(number)
        return 2 * number


def test_a_question_is_answered_once() -> None:
    one = Doubler()
    assert [one.twice(2), one.twice(3), one.twice(2)] == [4, 6, 4]
    assert one.asked == [2, 3]


def test_each_object_has_answers_of_its_own() -> None:
    one, other = Doubler(), Doubler()
    assert one.twice(2) == other.twice(2)
    assert one.asked == other.asked == [2]


def test_answers_go_with_the_object() -> None:
    one = Doubler()
    one.twice(2)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_it_keeps_the_method_s_description() -> None:
    assert Doubler.twice.__doc__ == "The number, doubled."
