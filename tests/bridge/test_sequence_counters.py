"""A guest that was captured while somebody changed its mounts, or renamed a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from image_editor import Editor

from hybridbridge_vol.errors import HybridBridgeWarning
from hybridbridge_vol.guest.session import open_session

Lab = Any


@pytest.mark.parametrize("name", ["mount_lock", "rename_lock"])
def test_paths_are_looked_up_though_a_writer_holds_the_counter(
    lab: Lab, tmp_path: Path, generation: str, name: str
) -> None:
    """Its readers wait for the writer to end: each lookup took its whole budget."""
    editor = Editor(lab.session(generation))
    counter = editor.bridge.snapshot(name)
    editor.write(counter, editor.read(counter) | 1)
    image = tmp_path / "written.raw"
    editor.save(lab.sample(generation).dump, image)
    with pytest.warns(HybridBridgeWarning, match=f"being changed at the capture .{name}"):
        session = open_session(image, lab.store.root)
    with session:
        assert session.files.listdir("/") == lab.session(generation).files.listdir("/")
        assert session.files.readlink("/proc/1/exe") == lab.session(generation).files.readlink("/proc/1/exe")
        assert session.rolled_back == 0
