"""`hb completion`: completion of commands, tools, options and values in bash and zsh.

The shell's function runs `hb` with the line typed so far, and argcomplete answers from the very parser that
would parse it; `hb` loads only what the line names, as for any other command. Generators of static scripts
need no process per completion, but cannot express `hb run DUMP TOOL` in zsh: shtab 1.13 takes the first word
after `run` for the tool.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from hybridbridge_vol import tools
from hybridbridge_vol.cli.console import OK, open_store
from hybridbridge_vol.cli.run import destination
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.toolkit.tool import Tool

SHELLS = ("bash", "zsh")

if TYPE_CHECKING:
    from argcomplete.completers import BaseCompleter

    Completer = BaseCompleter | Callable[..., Sequence[str]]
    """Called with `prefix`, the word typed so far, and other keywords; returns the words that it may
    become."""


def add_arguments(parser: argparse.ArgumentParser, _arguments: Sequence[str] | None) -> None:
    """See `main.Command`."""
    parser.description = "Print the script that makes a shell complete hb's commands, tools and options."
    parser.epilog = (
        "examples:\n"
        "  hb completion bash > ~/.local/share/bash-completion/completions/hb\n"
        "  hb completion zsh > ~/.zfunc/_hb            # with fpath+=~/.zfunc before compinit in ~/.zshrc\n"
        "  source <(hb completion bash)                # for this shell only"
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash or zsh")
    parser.set_defaults(execute=completion_command)


def completion_command(args: argparse.Namespace) -> int:
    """`hb completion SHELL`"""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["hb"], shell=args.shell))
    return OK


def complete(parser: Callable[[Sequence[str]], argparse.ArgumentParser]) -> None:
    """Answer the shell's request for completions and exit."""
    import argcomplete

    made = parser(os.environ.get("COMP_LINE", "").split()[1:])
    for action, tool in _actions(made):
        completer = _completer_of(action, tool)
        if completer is not None:
            setattr(action, "completer", completer)  # noqa: B010  argcomplete's protocol, unknown to argparse
    argcomplete.autocomplete(made, always_complete_options=False)


def _actions(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Action, Tool | None]]:
    """All actions of a parser and of its sub-commands, with the tool whose parser has them."""
    for action in parser._actions:
        yield action, parser.get_default("tool")
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)


def _completer_of(action: argparse.Action, tool: Tool | None) -> Completer | None:
    """What completes the values of an argument; None: files."""
    from argcomplete.completers import DirectoriesCompleter

    for option in tool.options if tool is not None else ():
        if action.dest == destination(option) and option.examples:
            return _comma_separated([word for example in option.examples for word in example.split(",")])
    if action.metavar == "DIR":
        return DirectoriesCompleter()
    if action.metavar in ("NAME", "KERNEL"):
        return _kernels
    if action.metavar == "A,B,…":
        return _comma_separated(tools.NAMES)
    if action.metavar in ("N", "PID", "MIB", "SECONDS", "ADDRESS"):
        return _nothing
    return None


def _nothing(**_others: object) -> Sequence[str]:
    return []


def _kernels(parsed_args: argparse.Namespace, **_others: object) -> Sequence[str]:
    """The names of the stored kernels."""
    try:
        return [kernel.name for kernel in open_store(parsed_args).kernels()]
    except (HybridBridgeError, OSError):
        return []


def _comma_separated(names: Sequence[str]) -> Completer:
    """Completes the last item of a list."""

    def complete(prefix: str, **_others: object) -> Sequence[str]:
        before, comma, _last = prefix.rpartition(",")
        return [f"{before}{comma}{name}" for name in names if name not in before.split(",")]

    return complete
