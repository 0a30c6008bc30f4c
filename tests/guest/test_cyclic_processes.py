"""A forged tree of pids: /proc, which is made from it, leads back into itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from image_editor import Editor

from hybridbridge_vol import tools
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.native.capture import capture
from hybridbridge_vol.native.run import Options
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.limits import limited_rows

Lab = Any
_XA_SLOTS = 40
"""Where a `struct xa_node` has its slots (include/linux/xarray.h)."""


def test_processes_up_to_where_their_list_leads_back_into_itself_are_shown(lab: Lab, tmp_path: Path) -> None:
    """A forged slot of the tree of pids: the tools had listed a million names, and shown none."""
    session = lab.session("6.1 two CPUs")
    editor = Editor(session)
    words = [editor.read(session.bridge.snapshot("init_pid_ns") + at) for at in range(0, 128, 8)]
    root = next(word - 2 for word in words if word & 3 == 2 and session.bridge.may_be_snapshot(word))
    slots = [number for number in range(64) if editor.read(root + _XA_SLOTS + 8 * number)]
    first, second = (root + _XA_SLOTS + 8 * number for number in slots[:2])
    editor.write(second, editor.read(first))
    image = tmp_path / "cyclic.raw"
    editor.save(lab.sample("6.1 two CPUs").dump, image)
    tool = tools.load("tinyps")
    good = [row.cells[0] for row in tool.rows(session, tool.defaults())]
    with open_session(image, lab.store.root) as forged:
        listed = capture(forged, ("ls", "/proc"), b"", Options(seconds=600))
        *rows, end = limited_rows(tool, forged, tool.defaults())
    assert [row.cells[0] for row in rows] == [pid for pid in good if pid < 64 * slots[1]]
    assert isinstance(end.cells[0], Unavailable)
    assert "processes may be missing: /proc: listed in part" in end.cells[0].reason
    pids = [int(name) for name in listed.stdout.split() if name.isdigit()]
    assert sorted(pids) == [row.cells[0] for row in rows]
    assert listed.status == 2 and b"Input/output error" in listed.stderr
