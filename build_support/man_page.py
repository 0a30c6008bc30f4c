"""Writes docs/man/hb.1 from the parser of `hb` and the tools' own descriptions. `make docs` runs it; a test
holds the page current. The wheel installs it as share/man/man1/hb.1."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from hybridbridge_vol import __version__
from hybridbridge_vol.cli.console import EXIT_STATUSES
from hybridbridge_vol.cli.main import ABOUT, COMMANDS, EXAMPLES, parser
from hybridbridge_vol.toolkit.tool import Tool

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "man" / "hb.1"

FILES = (
    (
        "~/.cache/hybridbridge/trust",
        "The user's store of trusted kernels, with their memos. --store names another.",
    ),
)
ENVIRONMENT = (
    ("XDG_CACHE_HOME", "The directory of hybridbridge/trust, instead of ~/.cache."),
    ("COLUMNS", "The width of help texts."),
)


def page() -> str:
    """The whole page, in the macros of man(7)."""
    top = parser()
    commands = _subcommands(top)
    lines = [
        f'.TH HB 1 "" "hybridbridge\\-vol {__version__}" "User Commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        r"hb \- analyse a Linux memory image by running the kernel's own code",
        ".SH SYNOPSIS",
        ".B hb",
        r"[\fB\-\-debug\fR] \fICOMMAND\fR ...",
        ".SH DESCRIPTION",
        *_paragraphs(ABOUT),
        ".SH EXAMPLES",
        *_paragraphs(EXAMPLES),
        ".SH OPTIONS",
        *_options(top),
        ".SH COMMANDS",
    ]
    for name in COMMANDS:
        lines += _command(commands[name], full=name != "run")
    lines += [".SH TOOLS", *_text("Each is given after")]
    lines += [
        r"\fBhb run\fR \fIDUMP\fR.",
        *_text("Their columns are in"),
        r"\fBhb run\fR \fIDUMP TOOL\fR \fB\-\-help\fR.",
    ]
    for sub in _subcommands(commands["run"]).values():
        lines += _tool(sub)
    lines += [".SH EXIT STATUS"]
    for status, meaning in EXIT_STATUSES:
        lines += [".TP", f".B {status}", *_text(f"{meaning}.")]
    for title, entries in (("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT)):
        lines.append(f".SH {title}")
        for name, meaning in entries:
            lines += [".TP", f".B {_escaped(name)}", *_text(meaning)]
    return "\n".join(lines) + "\n"


def _command(command: argparse.ArgumentParser, full: bool) -> Iterator[str]:
    """A command with its actions; without the sub-commands that have a section of their own."""
    yield f'.SS "{_escaped(command.prog)}"'
    yield from _synopsis(command)
    yield from _paragraphs(command.description or "")
    yield from _options(command)
    if full:
        for action in _subcommands(command).values():
            yield from _synopsis(action)
            yield from _paragraphs(action.description or "")
            yield from _options(action)
    yield from _paragraphs(command.epilog or "")


def _tool(command: argparse.ArgumentParser) -> Iterator[str]:
    tool: Tool = command.get_default("tool")
    yield f".SS {tool.name}"
    yield from _paragraphs(f"{tool.help}.\n\n{tool.notes}")
    yield from _options(command, own_only=True)


def _subcommands(command: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _synopsis(command: argparse.ArgumentParser) -> Iterator[str]:
    usage = " ".join(command.format_usage().removeprefix("usage: ").split())
    yield from (".PP", f".B {_escaped(command.prog)}", _escaped(usage.removeprefix(command.prog).strip()))


def _options(command: argparse.ArgumentParser, own_only: bool = False) -> Iterator[str]:
    """The arguments with their help; `own_only`: without those of every tool."""
    groups = [
        group for group in command._action_groups if not (own_only and group.title == "options of every tool")
    ]
    for action in (action for group in groups for action in group._group_actions):
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            continue
        yield from (".TP", _invocation(action), *_text(f"{action.help}."))


def _invocation(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices and not value:
        value = "|".join(map(str, action.choices))
    value = rf"\fI{_escaped(value)}\fR" if value else ""
    if not action.option_strings:
        return value + (" ..." if action.nargs == "+" else "")
    names = ", ".join(rf"\fB{_escaped(name)}\fR" for name in action.option_strings)
    return f"{names} {value}".rstrip() + (" ..." if action.nargs == "+" else "")


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs are filled; indented lines stay as they are."""
    verbatim = False
    for line in text.strip("\n").split("\n"):
        if line.startswith(" ") != verbatim:
            verbatim = not verbatim
            yield ".nf" if verbatim else ".fi"
        if line:
            yield from _text(line) if verbatim else (".PP", *_text(line))
    if verbatim:
        yield ".fi"


def _text(line: str) -> Iterator[str]:
    """A line of text that roff cannot take for a request."""
    shown = _escaped(line)
    yield rf"\&{shown}" if shown.startswith((".", "'")) else shown


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq").replace("…", "...")


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
    print(PAGE)
