"""The tools as methods. Type checkers read `methods.pyi` instead: `make stubs` writes it from the same tools.

A tool is loaded when its method is first asked for.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable
from typing import Any

from hybridbridge_vol import tools
from hybridbridge_vol.api.signatures import annotation_of, described, keyword_of, signature_of
from hybridbridge_vol.api.table import Table
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.toolkit.tool import Option, Tool


class ToolMethods:
    """One method for each name in `tools.NAMES`."""

    def session(self) -> GuestKernel:
        """The kernel that answers."""
        raise NotImplementedError


class _Method:
    """A descriptor that replaces itself by the method when that is first asked for."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        made = method_of(tools.load(self.name))
        setattr(ToolMethods, self.name, made)
        return made if instance is None else made.__get__(instance, owner)


for _name in tools.NAMES:
    setattr(ToolMethods, _name, _Method(_name))


def method_of(tool: Tool) -> Callable[..., Table[Any]]:
    """The method that runs a tool."""
    signature = signature_of(tool)

    def method(self: ToolMethods, *args: Any, **kwargs: Any) -> Table[Any]:
        try:
            given = signature.bind(self, *args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{tool.name}: {error}; {_known(tool)}") from None
        options = {
            option.name: _checked(tool, option, given.get(keyword_of(option), option.default))
            for option in tool.options
        }
        rows = limited_rows(tool, self.session(), options)
        return Table(tool.name, tool.columns_for(options), rows, tool.tree_column)

    method.__name__ = tool.name
    method.__qualname__ = f"Snapshot.{tool.name}"
    method.__doc__ = described(tool)
    setattr(method, "__signature__", signature)  # noqa: B010  inspect's protocol, unknown to functions' type
    return method


def _known(tool: Tool) -> str:
    if not tool.options:
        return "it has no options"
    options = (f"{keyword_of(option)}: {annotation_of(option)}" for option in tool.options)
    return f"its options are {', '.join(options)}"


def _checked(tool: Tool, option: Option, value: Any) -> Any:
    """The value as the tool takes it. TypeError."""
    try:
        if option.many:
            single = isinstance(value, (str, os.PathLike)) or not isinstance(value, Iterable)
            return tuple(_one(option, item) for item in ((value,) if single else value))
        if value is None and option.default is None and not option.positional:
            return None
        return _one(option, value)
    except TypeError:
        raise TypeError(
            f"{tool.name}: {keyword_of(option)} must be {annotation_of(option)}, not {value!r}"
        ) from None


def _one(option: Option, value: Any) -> bool | int | str:
    """A single value of an option. TypeError."""
    if option.type is str:
        text = os.fspath(value)
        if isinstance(text, str):
            return text
    elif option.type is bool:
        if isinstance(value, bool) or type(value).__name__ == "bool":  # numpy's too
            return bool(value)
    elif not isinstance(value, bool):
        return operator.index(value)
    raise TypeError
