"""Listing a directory: to its end, or to where it is cyclic, breaks off or is too long."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import count, cycle, islice

import pytest

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest import endless, folder_names
from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.folder_names import listed

Part = list[tuple[int, str]]


def parts(*names: str, then: Exception | None = None) -> Iterator[Part]:
    """One part for each name, and then the end."""
    for position, name in enumerate(names):
        yield [(position, name)]
    if then is not None:
        raise then
    while True:
        yield []


def incomplete(entries: Iterator[Part]) -> IncompleteDirectory:
    with pytest.raises(IncompleteDirectory) as caught:
        listed("/folder", lambda: next(entries))
    return caught.value


def test_all_names_in_their_order() -> None:
    entries = parts(".", "..", "b", "a", "\udcff\n")
    assert listed("/folder", lambda: next(entries)) == ["b", "a", "\udcff\n"]


def test_a_ring_of_entries_ends_where_it_leads_back() -> None:
    ring = iter(lambda: [(0, "a"), (1, "b")], None)
    error = incomplete(ring)
    assert error.names == ["a", "b"] and "leads back into itself: 'b'" in str(error.strerror)


def test_a_ring_behind_other_entries_ends_too() -> None:
    error = incomplete(parts("first", *["again"] * 5))
    assert error.names == ["first", "again"] and "'again'" in str(error.strerror)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (CallRolledBack("getdents64", "a fault"), "a fault"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "the rest of it is not in memory"),
    ],
)
def test_what_was_listed_before_an_error_is_kept(error: Exception, reason: str) -> None:
    found = incomplete(parts("a", "b", then=error))
    assert found.names == ["a", "b"]
    assert str(found.strerror).endswith(reason)


def test_more_names_than_a_directory_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_names, "MAX_DIRECTORY_ENTRIES", 3)
    error = incomplete(parts(*"abcdefgh"))
    assert error.names == list("abcd") and "more than 3 entries" in str(error.strerror)


def test_a_folder_of_proc_that_does_not_end_is_given_up_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A forged table of descriptors: /proc/PID/fd listed names for ever."""
    monkeypatch.setattr(endless, "MAX_KERNEL_ENTRIES", 100)
    numbers = count()

    def part() -> list[tuple[int, str]]:
        return [(number, str(number)) for number in islice(numbers, 40)]

    with pytest.raises(IncompleteDirectory, match="it does not end") as raised:
        endless.bounded_entries("/proc/1/fd", part, endless.Patience())
    assert len(raised.value.names) == 120
    monkeypatch.setattr(endless, "MAX_KERNEL_ENTRIES", 1 << 40)
    monkeypatch.setattr(endless, "MAX_FILE_SECONDS", 0.05)
    with pytest.raises(IncompleteDirectory, match="it does not end"):
        endless.bounded_entries("/proc/1/fd", part, endless.Patience())


def test_a_folder_of_proc_that_leads_back_into_itself_has_each_name_once() -> None:
    parts = cycle([[(1, "."), (2, "1"), (3, "2")], [(4, "3")], [(3, "2")]])
    with pytest.raises(IncompleteDirectory, match="back into itself: '2' is there again") as raised:
        endless.bounded_entries("/proc", lambda: next(parts), endless.Patience())
    assert raised.value.names == ["1", "2", "3"]


def test_a_folder_of_proc_that_ends_is_listed_whole() -> None:
    parts = iter([[(1, "."), (2, "one")], [(3, "two")], []])
    assert endless.bounded_entries("/proc", lambda: next(parts), endless.Patience()) == [
        (1, "."),
        (2, "one"),
        (3, "two"),
    ]
