"""Many sessions in one process leave nothing behind: see also `benchmarks/RESULTS.md`, "Batches"."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

from hybridbridge_vol.guest import tools
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.lab.examine import PAPER_TOOLS
from hybridbridge_vol.lab.keeper import private_bytes


def ask_everything(evidence: Any) -> None:
    with open_session(evidence.folder / "a.raw", evidence.store) as session:
        for tool in map(tools.load, PAPER_TOOLS):
            for _row in tool.rows(session, {option.name: option.default for option in tool.options}):
                pass


def held() -> tuple[int, int, int]:
    """Private bytes, open files, memory mappings of this process."""
    maps = Path("/proc/self/maps").read_text()
    return private_bytes(os.getpid()), len(os.listdir("/proc/self/fd")), maps.count("/dump.raw") + maps.count("/memory")


def test_a_closed_session_holds_no_memory_and_no_file_even_before_python_collects_its_garbage(evidence: Any) -> None:
    ask_everything(evidence)
    gc.collect()
    gc.disable()
    try:
        ask_everything(evidence)
        before = held()
        for _ in range(5):
            ask_everything(evidence)
        after = held()
    finally:
        gc.enable()
    assert after[1:] == before[1:]
    assert after[0] < before[0] + (2 << 20)


def test_a_session_may_be_closed_twice(evidence: Any) -> None:
    session = open_session(evidence.folder / "a.raw", evidence.store)
    session.close()
    session.close()
