"""The stored memo of a kernel: many processes add to it, and none loses anything."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.memo_file import add, dump, load, memo_path, save
from hybridbridge_vol.errors import MemoError

KEY = MemoKey("abcdef", "policy", "6.1.0-test")

Ranges = list[tuple[int, int]]


def a_memo(proven: Ranges, trusted: set[int] | None = None, key: MemoKey = KEY) -> Memo:
    memo = Memo(key)
    memo.text.add(proven, trusted or ())
    return memo


def contents(memo: Memo) -> tuple[Ranges, frozenset[int]]:
    return list(memo.text.ranges()), memo.text.trusted


def covered(proven: Ranges) -> set[int]:
    return {offset for start, end in proven for offset in range(start, end)}


def test_a_store_without_a_memo_has_an_empty_one(tmp_path: Path) -> None:
    assert len(load(tmp_path, KEY)) == 0


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    memo = a_memo([(1, 5)], {2})
    assert save(tmp_path, memo)
    assert not memo.changed
    assert contents(load(tmp_path, KEY)) == ([(1, 5)], {2})


def test_saving_adds_to_what_is_stored_and_leaves_the_memo_as_it_is(tmp_path: Path) -> None:
    assert save(tmp_path, a_memo([(1, 5)], {2}))
    memo = a_memo([(4, 9)], {3})
    assert save(tmp_path, memo)
    assert contents(load(tmp_path, KEY)) == ([(1, 9)], {2, 3})
    assert contents(memo) == ([(4, 9)], {3})


def test_a_memo_that_has_not_grown_is_not_written(tmp_path: Path) -> None:
    assert save(tmp_path, a_memo([]))
    assert list(tmp_path.iterdir()) == []


def test_a_memo_from_elsewhere_is_added_though_it_has_not_grown(tmp_path: Path) -> None:
    memo = a_memo([(1, 5)])
    memo.mark_stored()
    assert save(tmp_path, memo)
    assert list(tmp_path.iterdir()) == []
    assert add(tmp_path, memo)
    assert contents(load(tmp_path, KEY)) == ([(1, 5)], set())


@pytest.mark.parametrize("change", [{"build_id": "other"}, {"policy": "other"}])
def test_a_memo_of_another_kernel_or_policy_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    other = replace(KEY, **change)
    memo_path(tmp_path, KEY).write_bytes(dump(a_memo([(1, 2)], key=other)))
    with pytest.raises(
        MemoError, match="another kernel or policy; it is ignored. Remove it with 'hb memo clear'"
    ):
        load(tmp_path, KEY)


def test_memos_of_two_policies_lie_side_by_side(tmp_path: Path) -> None:
    other = replace(KEY, policy="other")
    assert save(tmp_path, a_memo([(1, 2)]))
    assert save(tmp_path, a_memo([(3, 4)], key=other))
    assert contents(load(tmp_path, KEY)) == ([(1, 2)], set())
    assert contents(load(tmp_path, other)) == ([(3, 4)], set())


def huge(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(dump(a_memo([(0x1000, 0x1010)]))[:-1]),
        lambda path: path.write_bytes(dump(a_memo([(1, 2)], key=replace(KEY, build_id="other")))),
        huge,
    ],
    ids=["empty", "truncated", "another's", "huge"],
)
def test_a_damaged_file_is_reported_and_replaced_by_the_next_save(
    tmp_path: Path, spoil: Callable[[Path], Any]
) -> None:
    spoil(memo_path(tmp_path, KEY))
    with pytest.raises(MemoError, match=str(memo_path(tmp_path, KEY))):
        load(tmp_path, KEY)
    assert save(tmp_path, a_memo([(1, 2)]))
    assert contents(load(tmp_path, KEY)) == ([(1, 2)], set())


def test_a_directory_in_the_place_of_a_memo_is_reported(tmp_path: Path) -> None:
    memo_path(tmp_path, KEY).mkdir()
    with pytest.raises(MemoError, match="cannot be read"):
        load(tmp_path, KEY)
    memo = a_memo([(1, 2)])
    assert not save(tmp_path, memo)
    assert memo.changed
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".new-")] == []


WRITER = """
import sys
from pathlib import Path
from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.memo_file import save
folder, first, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for i in range(rounds):
    memo = Memo(MemoKey("abcdef", "policy"))
    memo.text.add([(first + 2 * i, first + 2 * i + 1)], [first + i])
    assert save(folder, memo)
"""


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    writers, rounds = 4, 25
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(1000 * number), str(rounds)])
        for number in range(writers)
    ]
    while any(process.poll() is None for process in processes):
        load(tmp_path, KEY)  # a reader sees whole files only
    assert [process.wait() for process in processes] == [0] * writers
    memo = load(tmp_path, KEY)
    assert covered(list(memo.text.ranges())) == {
        1000 * n + 2 * i for n in range(writers) for i in range(rounds)
    }
    assert memo.text.trusted == {1000 * n + i for n in range(writers) for i in range(rounds)}
    assert {path.name for path in tmp_path.iterdir()} == {memo_path(tmp_path, KEY).name, ".memo-lock"}


def test_a_writer_that_dies_with_the_lock_does_not_block_others(tmp_path: Path) -> None:
    dying = "import os, sys; from pathlib import Path; from hybridbridge_vol.bridge import memo_file\n"
    dying += "with memo_file._locked(Path(sys.argv[1])): os._exit(1)"
    assert subprocess.run([sys.executable, "-c", dying, tmp_path], check=False).returncode == 1
    assert save(tmp_path, a_memo([(1, 2)]))


NOBODY = 65534

READ_ONLY = """
import os, sys
from pathlib import Path
from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.memo_file import load, save
if not os.getuid():
    os.setuid(int(sys.argv[2]))  # nothing is read-only to root
memo = load(Path(sys.argv[1]), MemoKey("abcdef", "policy"))
assert len(memo) == 1
memo.text.add([(7, 9)])
assert save(Path(sys.argv[1]), memo) is False
assert memo.changed
"""


def test_a_read_only_folder_is_read_and_not_written(tmp_path: Path) -> None:
    assert save(tmp_path, a_memo([(1, 2)]))
    before = memo_path(tmp_path, KEY).read_bytes()
    memo_path(tmp_path, KEY).chmod(0o444)
    tmp_path.chmod(0o555)
    for folder in tmp_path.parents:  # made for their owner alone
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    try:
        found = subprocess.run(
            [sys.executable, "-c", READ_ONLY, tmp_path, str(NOBODY)], capture_output=True, check=False
        )
    finally:
        tmp_path.chmod(0o755)
    assert (found.stderr, found.returncode) == (b"", 0)
    assert memo_path(tmp_path, KEY).read_bytes() == before
