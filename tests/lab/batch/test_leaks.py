"""Many sessions in one process leave nothing behind: see also `benchmarks/RESULTS.md`, "Batches".

What is measured are the sessions of a process of their own: what a test run has gathered before, its
allocators hand out and take back as they like.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from hybridbridge_vol import tools
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.lab.batch.request import PAPER_TOOLS
from hybridbridge_vol.lab.batch.worker.supervised_child import private_bytes

SESSIONS = 5


class Held(NamedTuple):
    """Private bytes, open files and mappings (of an image, or of emulated memory) of this process."""

    size: int
    files: int
    mappings: int


def held() -> Held:
    maps = Path("/proc/self/maps").read_text()
    return Held(
        private_bytes(os.getpid()),
        len(os.listdir("/proc/self/fd")),
        maps.count("/dump.raw") + maps.count("/memory"),
    )


def ask_everything(image: Path, store: Path) -> Held:
    """What the process holds when all is asked and the session still open."""
    with open_session(image, store) as session:
        for tool in map(tools.load, PAPER_TOOLS):
            for _row in tool.rows(session, tool.defaults()):
                pass
        return held()


def held_by_sessions(image: Path, store: Path) -> tuple[Held, Held, Held]:
    """While a session is open, before more sessions, and after them: all without Python's collector of
    garbage."""
    ask_everything(image, store)
    gc.collect()
    gc.disable()
    opened = ask_everything(image, store)
    before = held()
    for _ in range(SESSIONS):
        ask_everything(image, store)
    return opened, before, held()


def test_a_closed_session_holds_no_memory_and_no_file_even_before_python_collects_its_garbage(
    evidence: Any,
) -> None:
    command = [sys.executable, __file__, evidence.folder / "a.raw", evidence.store]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": root}, timeout=300
    )
    opened, before, after = (Held(*values) for values in json.loads(done.stdout))
    assert opened.files > before.files
    assert opened.mappings > before.mappings
    assert after[1:] == before[1:]
    one = opened.size - before.size
    assert after.size - before.size < one / 2, (
        f"{SESSIONS} closed sessions left more than half of what one holds, {one} bytes"
    )


def test_a_session_may_be_closed_twice(evidence: Any) -> None:
    session = open_session(evidence.folder / "a.raw", evidence.store)
    session.close()
    session.close()


if __name__ == "__main__":
    print(json.dumps(held_by_sessions(Path(sys.argv[1]), Path(sys.argv[2]))))
