"""A tool's options as arguments of a Python method: names, types and documentation."""

from __future__ import annotations

from inspect import Parameter, Signature

from hybridbridge_vol.api.table import field_of
from hybridbridge_vol.toolkit.tool import Option, Tool


def signature_of(tool: Tool) -> Signature:
    """The signature of a tool's method. What is an argument on the command line may be given by position or
    by name, everything else by name only."""
    parameters = [Parameter("self", Parameter.POSITIONAL_ONLY)]
    for option in sorted(tool.options, key=lambda option: not option.positional):
        kind = Parameter.POSITIONAL_OR_KEYWORD if option.positional else Parameter.KEYWORD_ONLY
        default = Parameter.empty if option.positional else option.default
        parameters.append(
            Parameter(field_of(option.name), kind, default=default, annotation=annotation_of(option))
        )
    return Signature(parameters, return_annotation=f"Table[{tool.name.capitalize()}]")


def annotation_of(option: Option) -> str:
    """An option's type as Python writes it. Where many values are taken, a single one is accepted too."""
    name = option.type.__name__
    if option.many:
        return f"{name} | Iterable[{name}]"
    return name if option.type is bool or option.positional else f"{name} | None"


def described(tool: Tool) -> str:
    """The docstring of a tool's method: what `hb run DUMP TOOL --help` says, for Python."""
    parts = [f"{tool.help}.", tool.notes]
    if tool.options:
        options = [
            f"  {field_of(option.name)}: {annotation_of(option)}  {option.help}" for option in tool.options
        ]
        parts.append("\n".join(["Options:", *options]))
    fields = [f"  {field_of(column.name)} ({column.name}): {column.help}" for column in tool.columns]
    parts.append("\n".join(["Fields of a row, with the tool's column and what it holds:", *fields]))
    return "\n\n".join(filter(None, parts))
