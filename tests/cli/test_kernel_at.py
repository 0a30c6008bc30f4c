"""--kernel-at: every command that opens an image takes it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from hybridbridge_vol.cli.main import parser

OPENS_NO_IMAGE = {
    "memo",
    "isf",
    "completion",
    *(f"trust {name}" for name in ("add", "list", "show", "export", "import", "rm")),
}


def commands(made: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Each command with its actions, and the options that it takes; of `hb run` not its tools."""
    options = {option for action in made._actions for option in action.option_strings}
    below = [action for action in made._actions if isinstance(action, argparse._SubParsersAction)]
    if words and (not below or words == ("run",)):
        yield " ".join(words), options
        return
    for action in below:
        for name, child in action.choices.items():
            yield from commands(child, (*words, name))


def test_every_command_that_opens_an_image_chooses_among_its_kernels() -> None:
    found = dict(commands(parser(None)))
    without = {name for name, options in found.items() if "--kernel-at" not in options}
    assert {name for name in without if name.split()[0] not in OPENS_NO_IMAGE} - OPENS_NO_IMAGE == set()
    assert {"run", "exec", "shell", "regress record", "regress verify", "train", "trust get"} <= set(found)


@pytest.mark.parametrize(
    "words", ["run x ps", "exec x", "train x", "trust get x", "regress record x", "info x"]
)
def test_an_address_may_be_written_in_any_base(words: str) -> None:
    first, *rest = words.split()
    line = [first, *rest, "--kernel-at", "0x1000000", *(["--", "ps"] if first == "exec" else [])]
    assert parser(line).parse_args(line).kernel_at == 1 << 24


def test_every_tool_takes_it_behind_its_name_too() -> None:
    (below,) = (
        action
        for name, child in _children(parser(None))
        if name == "run"
        for action in child._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for child in below.choices.values():
        assert any("--kernel-at" in action.option_strings for action in child._actions)


def _children(made: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()
