"""The tools' options as arguments of Python methods."""

from __future__ import annotations

import keyword

import pytest

from hybridbridge_vol import tools
from hybridbridge_vol.api.signatures import keyword_of, signature_of


@pytest.mark.parametrize("name", tools.NAMES)
def test_every_option_of_a_tool_is_an_argument_of_its_method(name: str) -> None:
    tool = tools.load(name)
    _self, *arguments = signature_of(tool).parameters
    assert sorted(arguments) == sorted(keyword_of(option) for option in tool.options)
    assert all(word.isidentifier() and not keyword.iskeyword(word) for word in arguments)


def test_a_dash_in_an_option_is_an_underscore_in_python() -> None:
    assert "changed_after" in signature_of(tools.load("files")).parameters
