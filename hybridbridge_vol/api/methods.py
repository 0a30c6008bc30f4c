"""The tools as methods. `methods.pyi` is what type checkers see instead: `make stubs` writes it from the same
tools.

A tool is loaded when its method is first asked for.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Any

from hybridbridge_vol import tools
from hybridbridge_vol.api.table import Table, field_of
from hybridbridge_vol.toolkit.tool import Option, Tool


class ToolMethods:
    """One method for each tool of `guest.tools.NAMES`."""

    def session(self) -> Any:
        """The `GuestKernel` that answers."""
        raise NotImplementedError


class _Method:
    """A descriptor that puts the function in its place when it is first asked for."""

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
            option.name: _checked(tool, option, given.get(option.name, option.default))
            for option in tool.options
        }
        return Table(
            tool.name, tool.columns_for(options), tool.rows(self.session(), options), tool.tree_column
        )

    method.__name__ = tool.name
    method.__qualname__ = f"Snapshot.{tool.name}"
    method.__doc__ = described(tool)
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method


def signature_of(tool: Tool) -> Signature:
    """Arguments of the command line may be given by place or by name, all else by name."""
    parameters = [Parameter("self", Parameter.POSITIONAL_ONLY)]
    for option in sorted(tool.options, key=lambda option: not option.positional):
        if option.positional:
            parameters.append(
                Parameter(option.name, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation_of(option))
            )
        else:
            parameters.append(
                Parameter(
                    option.name,
                    Parameter.KEYWORD_ONLY,
                    default=option.default,
                    annotation=annotation_of(option),
                )
            )
    return Signature(parameters, return_annotation=f"Table[{tool.name.capitalize()}]")


def annotation_of(option: Option) -> str:
    """An option's type as Python writes it. Of many one alone will do."""
    name = option.type.__name__
    if option.many:
        return f"{name} | Iterable[{name}]"
    return name if option.type is bool or option.positional else f"{name} | None"


def _known(tool: Tool) -> str:
    if not tool.options:
        return "it has no options"
    return "its options are " + ", ".join(
        f"{option.name}: {annotation_of(option)}" for option in tool.options
    )


def _checked(tool: Tool, option: Option, value: Any) -> Any:
    """The value as the tool takes it. TypeError."""
    try:
        if option.many:
            alone = isinstance(value, (str, os.PathLike)) or not isinstance(value, Iterable)
            return tuple(_one(option, item) for item in ((value,) if alone else value))
        if value is None and option.default is None and not option.positional:
            return None
        return _one(option, value)
    except TypeError:
        raise TypeError(
            f"{tool.name}: {option.name} must be {annotation_of(option)}, not {value!r}"
        ) from None


def _one(option: Option, value: Any) -> Any:
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


def described(tool: Tool) -> str:
    """The docstring of a tool's method: what `hb run DUMP TOOL --help` tells, for Python."""
    parts = [f"{tool.help}.", tool.notes]
    if tool.options:
        parts.append(
            "Options:\n"
            + "\n".join(f"  {option.name}: {annotation_of(option)}  {option.help}" for option in tool.options)
        )
    parts.append(
        "Fields of a row, with the tool's column and what it holds:\n"
        + "\n".join(f"  {field_of(column.name)} ({column.name}): {column.help}" for column in tool.columns)
    )
    return "\n\n".join(filter(None, parts))
