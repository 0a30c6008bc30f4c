"""A worker's child is confined: it reads the image and the store, writes its tables, asks for the rest."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.memo_file import dump, load
from hybridbridge_vol.bridge.memo_for_kernel import memo_key
from hybridbridge_vol.lab.batch.events import Event, Failed, Learned, Step
from hybridbridge_vol.lab.batch.worker.confined import confined, keep_learned
from hybridbridge_vol.lab.batch.worker.supervised_child import Limits, supervise
from hybridbridge_vol.trust.store import Store

Lab = Any


def steps_of(attempts: dict[str, Callable[[], object]], folder: Path, store: Path) -> set[str]:
    """The names of the attempts that a child succeeds with."""

    def work() -> Iterator[Event]:
        for name, attempt in attempts.items():
            try:
                attempt()
            except (OSError, subprocess.SubprocessError):
                continue
            yield Step(name)

    taken: list[Event] = []
    read_end, write_end = os.pipe()
    try:
        limits = Limits(lambda _step: 30, 1 << 40, time.monotonic() + 60)
        child = confined(work, str(folder / "dump"), str(store), str(folder / "staging"))
        assert supervise(child, taken.append, limits, read_end).how == "finished"
    finally:
        os.close(read_end)
        os.close(write_end)
    assert not [event for event in taken if isinstance(event, Failed)]
    return {event.name for event in taken if isinstance(event, Step)}


def test_a_child_that_tries_reaches_its_image_the_store_and_its_tables_only(tmp_path: Path) -> None:
    folder, store, other = tmp_path / "case", tmp_path / "store", tmp_path / "other"
    for made in (folder, store, other, folder / "staging"):
        made.mkdir()
    for file in (folder / "dump", store / "memory", other / "file"):
        file.write_bytes(b"bytes")
    reached = steps_of(
        {
            "the image": (folder / "dump").read_bytes,
            "the store": (store / "memory").read_bytes,
            "a table": lambda: (folder / "staging" / "ps.parquet").write_bytes(b"rows"),
            "another file": (other / "file").read_bytes,
            "write the image": lambda: os.open(folder / "dump", os.O_RDWR),
            "write the store": lambda: (store / "memory").write_bytes(b"forged"),
            "a memo": lambda: (store / "memo-3").write_bytes(b"forged"),
            "write elsewhere": lambda: (other / "new").write_bytes(b""),
            "the network": socket.socket,
            "a program": lambda: subprocess.run(["/bin/true"], check=True),
        },
        folder,
        store,
    )
    assert reached == {"the image", "the store", "a table"}
    assert (store / "memory").read_bytes() == b"bytes"


def learned(memo: Memo) -> Learned:
    return Learned(base64.b64encode(dump(memo)).decode())


def test_what_a_child_has_proven_is_stored_for_it(lab: Lab, tmp_path: Path) -> None:
    kernel = lab.kernel("6.12")
    copy = tmp_path / "store"
    entry = copy / kernel.folder.name
    entry.mkdir(parents=True)
    (entry / "kernel.json").write_bytes((kernel.folder / "kernel.json").read_bytes())
    key = memo_key(Store(copy).kernels()[0])
    memo = Memo(key)
    memo.text.add([(16, 32)], ())
    keep_learned(learned(memo), str(copy))
    assert list(load(entry, key).text.ranges()) == [(16, 32)]


@pytest.mark.parametrize(
    "sent",
    [
        Learned("not base 64"),
        Learned(base64.b64encode(b"not a memo").decode()),
        learned(Memo(MemoKey("of another", "policy", "release"))),
        learned(Memo(MemoKey("../../..", "/etc/passwd", "release"))),
    ],
)
def test_anything_else_that_a_child_sends_is_not_stored(lab: Lab, tmp_path: Path, sent: Learned) -> None:
    kernel = lab.kernel("6.12")
    entry = tmp_path / kernel.folder.name
    entry.mkdir()
    (entry / "kernel.json").write_bytes((kernel.folder / "kernel.json").read_bytes())
    keep_learned(sent, str(tmp_path))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["kernel.json"]
