"""HTML and SVG that cannot be got wrong: text is escaped where it goes in, and only what `tag` made is
markup.

Text of a guest may hold tags, quotes, control characters and marks that turn the direction of writing: the
first two are escaped for HTML, the rest is shown as escapes by `printable`.
"""

from __future__ import annotations

from html import escape

from hybridbridge_vol.toolkit.printable import printable

VOID = frozenset(("meta", "br"))
LONGEST_CELL = 160
"""Characters of one cell; the table has all of it."""


class Markup(str):
    """Text that is HTML already. Made here only."""

    __slots__ = ()


Child = str | int | float | None
"""None is nothing; a str that is no Markup is text."""


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element. A keyword's trailing `_` is dropped and `_` inside is `-`; None and False leave the
    attribute out."""
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_attribute(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Pieces one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else _text(child) for child in children))


def cut(text: str, longest: int = LONGEST_CELL) -> str:
    """The text, or its beginning and `…`."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def constant(code: str) -> Markup:
    """Style or script of this package's own: it holds nothing of a dataset. ValueError if it could end its
    element."""
    if "</" in code:
        raise ValueError("a constant that would end its element")
    return Markup(code)


def _text(child: Child) -> str:
    return "" if child is None else escape(printable(str(child)), quote=True)


def _attribute(value: str | float | bool) -> str:
    return escape(printable(str(value)), quote=True)
