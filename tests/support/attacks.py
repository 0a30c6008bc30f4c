"""Guests whose kernels a rootkit of ours attacks (samples/guest/rootkit.c), and the same ones left alone."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from image_editor import Editor

from hybridbridge_vol import tools
from hybridbridge_vol.guest.session import Session, open_session
from samples.make import Spec

KERNELS = {
    "5.10 nokaslr": "5.10-cloud",
    "6.1 two CPUs": "6.1-cloud",
    "6.12": "6.12-cloud",
    "7.x": "7-cloud",
}
"""By the sample that shares its kernel, which is trusted already."""


def guest(generation: str, attacks: str) -> Spec:
    """One of them; `attacks` as in `samples.attack_guest.SETS`."""
    return Spec(KERNELS[generation], light=True, attacks=attacks)


def ask(session: Any, name: str, **options: Any) -> list[dict[str, Any]]:
    """The rows of a tool."""
    tool = tools.load(name)
    chosen = tool.defaults() | options
    names = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(names, row.cells, strict=True)) for row in tool.rows(session, chosen)]


@contextlib.contextmanager
def edited(session: Session, store: Path, copy: Path, edit: Callable[[Editor], None]) -> Iterator[Session]:
    """A session on an edited copy of a session's image, which is made at `copy` and removed."""
    editor = Editor(session)
    edit(editor)
    assert editor.words
    try:
        subprocess.run(["cp", "--sparse=always", session.bridge.image.path, copy], check=True)
        with open(copy, "r+b") as stream:
            for offset, word in editor.words.items():
                stream.seek(offset)
                stream.write(word.to_bytes(8, "little"))
        with open_session(copy, store) as other:
            yield other
    finally:
        copy.unlink(missing_ok=True)
