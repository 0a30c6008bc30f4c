"""Paths of the guest's own file systems, beside /proc."""

from __future__ import annotations

from typing import Any

from sessions import session_with

from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.units import PAGE_SIZE

OPENINGS = 50


def test_asking_for_files_of_the_guest_does_no_harm_to_the_trusted_kernel(lab: Any, generation: str) -> None:
    """Per-CPU counters of the snapshot were counted in the trusted kernel's own per-CPU memory, where slab
    caches have their free lists: one opening was enough to make a later one fault."""
    with session_with(lab, generation, Mode.AUTO) as session:
        pids = [name for name in session.files.listdir("/proc") if name.isdecimal()]
        before = [session.files.read(f"/proc/{pid}/stat") for pid in pids]
    with session_with(lab, generation, Mode.AUTO) as session:
        for _ in range(OPENINGS):
            session.files.attributes("/")
            session.files.listdir("/etc")
            assert session.files.read_range("/etc/passwd", 0, PAGE_SIZE).startswith(b"root:")
        assert [session.files.read(f"/proc/{pid}/stat") for pid in pids] == before
        assert session.statistics.total.rolled_back == 0
