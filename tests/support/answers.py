"""What a tool answers, row by row, as tests compare it."""

from __future__ import annotations

from typing import Any

from hybridbridge_vol import tools
from hybridbridge_vol.guest.session import Session


def ask(session: Session, name: str, **options: Any) -> list[dict[str, Any]]:
    """The rows of a tool, each by its columns' names."""
    tool = tools.load(name)
    chosen = tool.defaults()
    chosen |= {key.replace("_", "-"): value for key, value in options.items()}
    assert set(chosen) == {option.name for option in tool.options}
    names = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(names, row.cells, strict=True)) for row in tool.rows(session, chosen)]
