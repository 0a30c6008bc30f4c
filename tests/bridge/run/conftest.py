"""Small bridges, closed when their test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_bridge import SmallBridge

Make = Callable[..., SmallBridge]


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Makes small bridges; arguments as for `SmallBridge`, without the folder."""
    made: list[SmallBridge] = []

    def one(functions: dict[str, str], **more: Any) -> SmallBridge:
        folder: Path = tmp_path_factory.mktemp("bridge")
        made.append(SmallBridge(folder, functions, **more))
        return made[-1]

    yield one
    for small in made:
        small.close()
