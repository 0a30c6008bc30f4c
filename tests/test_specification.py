"""SPECIFICATION.md promises nothing without a test or a benchmark: each row names some that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    line
    for line in (ROOT / "SPECIFICATION.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| promise")
]
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_BENCHMARK = re.compile(r'`benchmarks/RESULTS\.md`, "([^"]+)"')


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_there_are_promises() -> None:
    assert len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_each_promise_names_a_test_or_a_benchmark_that_exists(row: str) -> None:
    shown_by = row.rstrip("| ").rsplit(" | ", 1)[1]
    tests, benchmarks = _TEST.findall(shown_by), _BENCHMARK.findall(shown_by)
    assert tests or benchmarks, "no test and no benchmark"
    for path, function in tests:
        assert (ROOT / path).is_file(), path
        assert not function or function in functions_of(ROOT / path), f"{path}::{function}"
    headings = re.findall(r"^## (.+)$", (ROOT / "benchmarks" / "RESULTS.md").read_text(), re.MULTILINE)
    assert set(benchmarks) <= set(headings)
