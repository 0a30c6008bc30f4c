"""Images to plant hooks in, and what `hb check` says of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from generations import Lab
from victims import NAME, Victim, check

from hybridbridge_vol.guest.session import open_session


@pytest.fixture
def victim(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Victim]]:
    """Makes a victim of a generation."""
    made: list[Path] = []

    def make(name: str = NAME) -> Victim:
        path = tmp_path / f"victim{len(made)}.raw"
        subprocess.run(["cp", "--sparse=always", lab.sample(name).dump, path], check=True)
        made.append(path)
        return Victim(lab.session(name), path)

    yield make
    for path in made:
        path.unlink()


@pytest.fixture
def checked(lab: Lab) -> Callable[[Victim], list[dict[str, Any]]]:
    """`hb.check` of an edited image."""

    def ask(victim: Victim) -> list[dict[str, Any]]:
        with open_session(victim.path, lab.store.root) as session:
            return check(session)

    return ask
