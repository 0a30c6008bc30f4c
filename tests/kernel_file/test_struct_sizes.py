"""Structures of kernels that check their locks are larger; others are not searched beyond their end."""

from __future__ import annotations

import pytest

from hybridbridge_vol.kernel_file.struct_sizes import (
    USUAL,
    WITH_CHECKED_LOCKS,
    StructSizes,
    in_usual_or_larger,
)


def place(memory: list[int], sizes: StructSizes) -> int:
    """Where in a dentry the number 7 is, which must be there once."""
    (found,) = (at for at, number in enumerate(memory[: sizes.dentry]) if number == 7)
    return found


@pytest.mark.parametrize(("places", "found"), [((40,), 40), ((40, 232), 40), ((300,), 300)])
def test_a_field_is_looked_for_in_the_usual_size_first(places: tuple[int, ...], found: int) -> None:
    memory = [7 if at in places else 0 for at in range(WITH_CHECKED_LOCKS.dentry)]
    assert in_usual_or_larger(lambda sizes: place(memory, sizes), ValueError) == found


def test_what_is_nowhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        in_usual_or_larger(lambda sizes: place([0] * 1000, sizes), ValueError)


def test_every_structure_is_larger_with_checked_locks() -> None:
    assert all(small < large for small, large in zip(USUAL, WITH_CHECKED_LOCKS, strict=True))
