"""What a tool makes for its answer goes when it has answered: a session may be asked for days."""

from __future__ import annotations

import gc
from collections import Counter

import pytest
from answers import ask
from default_run import in_default_run
from generations import Lab


def live_objects() -> Counter[str]:
    """How many objects of each of our classes there are."""
    gc.collect()
    return Counter(
        f"{type(one).__module__}.{type(one).__qualname__}"
        for one in gc.get_objects()
        if str(type(one).__module__).startswith("hybridbridge_vol.")
    )


TOOLS = ("check", "hooks", "hidden", "malfind", "lsof", "queues", "persistence")


@pytest.mark.parametrize("tool", in_default_run(TOOLS, "hidden", "lsof", "persistence"))
def test_a_tool_keeps_nothing_of_its_second_answer(lab: Lab, tool: str) -> None:
    """Of the first, it may keep what it has learned of the image."""
    session = lab.session("7.x")
    for _answer in range(2):
        ask(session, tool)
    before = live_objects()
    ask(session, tool)
    assert live_objects() - before == Counter()
