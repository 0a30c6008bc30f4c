"""The part of a kept file's name that stands for how it was made.

Comments, docstrings, layout and imports make no difference to it, and neither does a module that only chooses
what is made.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
_MAKERS = ("compiler.py", "initramfs.py", "modules.py", "qemu.py", "truth.py")
"""The programs between what goes into a guest and what is kept of it."""


def digest(*parts: object) -> str:
    """Sixteen hex digits that name the parts, by their `repr`, and the makers' code."""
    text = "\0".join(map(repr, (*parts, _code_digest(HERE, _MAKERS))))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@cache
def _code_digest(folder: Path, names: Iterable[str]) -> str:
    code = [code_of((folder / name).read_text()) for name in names]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def code_of(source: str) -> str:
    """Python source without comments, docstrings and imports, in one layout. SyntaxError where it is none."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [item for item in body if not _is_left_out(item)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_left_out(node: ast.AST) -> bool:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_text or isinstance(node, ast.Import | ast.ImportFrom)
