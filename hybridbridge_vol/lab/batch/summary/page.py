"""The page as HTML: one file without references to anything else.

Text of a guest may hold tags, quotes, control characters and marks that change the writing direction. The
templates' autoescape takes care of the first two, and `printable` shows the rest as escapes: both are applied
to every value, here, so that no template can forget them. A Content-Security-Policy allows no script and no
style but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from hybridbridge_vol.lab.batch.summary import timeline
from hybridbridge_vol.lab.batch.summary.facts import Facts
from hybridbridge_vol.lab.batch.summary.rules import FEWEST
from hybridbridge_vol.lab.batch.summary.view import page_view
from hybridbridge_vol.toolkit.printable import printable

TEMPLATES = Path(__file__).parent / "templates"


def page_of(batch: Sequence[Facts]) -> str:
    """The whole page, for images in the order in which they are to be shown."""
    style, script = constant("style.css"), constant("script.js")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("page.html")
    return template.render(page=page_view(batch), style=style, script=script, policy=policy)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {
        "fewest": FEWEST,
        "width": timeline.WIDTH,
        "left": timeline.LEFT,
        "right": timeline.WIDTH - timeline.RIGHT,
        "top": timeline.TOP,
    }
    return environment


def _text(value: object) -> str:
    """A value as a template shows it, before it is escaped; nothing for None."""
    if isinstance(value, Markup):
        return value
    return "" if value is None else printable(str(value))


def constant(name: str) -> Markup:
    """Style or script of this package: it holds nothing from a dataset. ValueError if it could end its
    element."""
    code = (TEMPLATES / name).read_text(encoding="utf-8")
    if "</" in code:
        raise ValueError(f"{name} would end its element")
    return Markup(code)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
