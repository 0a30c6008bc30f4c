"""How much of /proc and /sys must be equal to the byte."""

from __future__ import annotations

from benchmarks.fidelity import WANTED, Comparison


def assert_faithful(comparison: Comparison) -> None:
    """Hold a comparison to what the README promises."""
    assert comparison.share >= WANTED, comparison.different
    assert len(comparison.unexplained) <= comparison.files * 0.002, comparison.unexplained
