"""What all hb.* plugins of Volatility share: requirements and a TreeGrid, made from a tool's description.

It is not among the plugins and not a PluginInterface itself, because Volatility lists every subclass of that
as a plugin. Volatility 3 (2.28) has no positional arguments, so a tool's positional option is a required
`--name`.

Volatility imports all plugins at every start, even for `vol -h`. The engine is therefore imported when a
plugin runs: with Unicorn and the image formats it takes about 0.2 s.
"""

from __future__ import annotations

import datetime
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias, cast
from urllib.parse import urlparse
from urllib.request import url2pathname

from volatility3.framework import exceptions, interfaces, renderers
from volatility3.framework.configuration import requirements
from volatility3.framework.renderers import format_hints
from volatility3.plugins import timeliner

from hybridbridge_vol.errors import HybridBridgeError, ImageError, OptionError, error_text
from hybridbridge_vol.short_run import search_seldom
from hybridbridge_vol.toolkit.cells import Cell, Kind, Unavailable, as_json, as_python, as_text
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.toolkit.printable import printable
from hybridbridge_vol.toolkit.render import read_errors
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Tool

if TYPE_CHECKING:
    from hybridbridge_vol.guest.session import Session

TYPES: dict[Kind, type] = {
    "int": int,
    "float": float,
    "percent": float,
    "hex": format_hints.Hex,
    "str": str,
    "time": datetime.datetime,
    "duration": str,
}
TreeRow: TypeAlias = tuple[int, tuple[object, ...]]
"""Depth and values."""
LOCATION = "automagic.LayerStacker.single_location"
"""The configuration value in which Volatility's command line puts the image's URL."""


class EngineError(exceptions.VolatilityException):  # type: ignore[misc]
    """The engine's one-line message, for programs that use Volatility as a library."""


def described(tool: Tool) -> str:
    """The docstring of a tool's plugin: the first line is Volatility's short help."""
    return f"{tool.help}.\n\n{tool.notes}".strip()


class ToolPlugin:
    """Mixed into a PluginInterface that names its `tool`."""

    tool: ClassVar[Tool]
    context: Any
    config: Any
    _progress_callback: Any

    @classmethod
    def get_requirements(cls) -> list[interfaces.configuration.RequirementInterface]:
        """The tool's options, and those of every tool. No layer is required: that would start Volatility's
        scanners, and the engine reads the image itself."""
        return [requirement_of(option) for option in cls.tool.options] + [
            requirements.StringRequirement(
                name="store",
                description="directory of trusted kernels (default: ~/.cache/hybridbridge/trust)",
                optional=True,
            ),
            requirements.ChoiceRequirement(
                name="bridge",
                choices=["auto", "fast", "slow"],
                description="auto: run proven code, prove new code; slow: prove every call; "
                "fast: run proven code only",
                default="auto",
                optional=True,
            ),
            requirements.IntRequirement(
                name="ns_of",
                description="answer from inside the namespaces of this process (a container's), as nsenter "
                "--all does",
                optional=True,
            ),
            requirements.IntRequirement(
                name="root_of",
                description="files outside of /proc and /sys as seen from the root directory of this process "
                "(after chroot or pivot_root), without its namespaces",
                optional=True,
            ),
            requirements.StringRequirement(
                name="kernel_at",
                description="of several kernels in the image answer for the one at this physical address "
                "(default: the one that ran)",
                optional=True,
            ),
            requirements.IntRequirement(
                name="max_seconds",
                description="processor time after which the plugin ends with the rows that it has",
                optional=True,
            ),
            requirements.IntRequirement(
                name="max_memory",
                description="the same for memory, in MiB, not counting the image's file",
                optional=True,
            ),
            requirements.BooleanRequirement(
                name="provenance",
                description="add to each row the image offsets of the bytes it was made from "
                "(implies --bridge slow)",
                default=False,
                optional=True,
            ),
            requirements.BooleanRequirement(
                name="stats",
                description="print the bridge's statistics on standard error",
                default=False,
                optional=True,
            ),
        ]

    def run(self) -> renderers.TreeGrid:
        """The tool's rows. Raises EngineError; under Volatility's own command line it exits with one line."""
        if self._is_the_program():
            search_seldom()
        options = {option.name: self._option(option) for option in self.tool.options}
        tool = self.tool
        if self.config.get("provenance", False):
            from hybridbridge_vol.toolkit.provenance import with_provenance

            tool = with_provenance(tool)
        answer = self._answer(tool, options)
        columns, rows = cast("tuple[Column, ...]", next(answer)), cast("Iterator[TreeRow]", answer)
        # an error before the first row is raised here, before a renderer has written the head of a table
        first = list(islice(rows, 1))
        titles = [(title_of(column), TYPES[column.kind]) for column in columns]
        return renderers.TreeGrid(titles, chain(first, rows))

    def _option(self, option: Option) -> object:
        value = self.config.get(option.name, None)
        if option.many:
            return tuple(value or ())
        return option.default if value is None else value

    def _answer(self, tool: Tool, options: Options) -> Iterator[tuple[Column, ...] | TreeRow]:
        """The columns, and then the rows: the session is closed after the last of them."""
        log = logging.getLogger(type(self).__module__)
        with self._opened(slow=tool is not self.tool) as session:
            tool = tool.answering(session, options)
            columns = tool.columns_for(options)
            yield columns
            for row in limited_rows(tool, session, options):
                for reason in dict.fromkeys(read_errors(columns, row).values()):
                    log.warning("%s", printable(f"unreadable: {reason}"))
                values = zip(row.cells, columns, strict=True)
                yield row.depth, tuple(value_of(cell, column.kind) for cell, column in values)
            if self.config.get("stats", False):
                sys.stderr.writelines(f"{line}\n" for line in session.statistics.lines())

    @contextmanager
    def _opened(self, slow: bool = False) -> Iterator[Session]:
        """A session on the image; what ends the block by an error ends the plugin with one line."""
        from hybridbridge_vol.guest.session import open_session

        log = logging.getLogger(type(self).__module__)
        store = self.config.get("store", None)
        image = None
        warnings.showwarning = lambda message, *_place: log.warning("%s", printable(str(message)))
        try:
            image = image_path(self.context.config.get(LOCATION, None))
            with open_session(
                image,
                store=Path(store) if store else None,
                progress=self._progress,
                mode="slow" if slow else self.config.get("bridge", None) or "auto",
                ns_of=self.config.get("ns_of", None),
                kernel_at=address_of(self.config.get("kernel_at", None)),
                root_of=self.config.get("root_of", None),
            ) as session:
                session.allowance.seconds = self.config.get("max_seconds", None)
                session.allowance.memory = (self.config.get("max_memory", None) or 0) << 20 or None
                yield session
        except (HybridBridgeError, OSError) as error:
            self._fail(error_text(error, image), error)

    def _progress(self, fraction: float, text: str) -> None:
        self._progress_callback(100 * fraction, text)

    def _fail(self, text: str, error: Exception) -> NoReturn:
        """End with the message alone. Volatility's command line replaces the message of an exception that it
        does not know by "unexpected situation" and a request for a bug report, so there the exit is made
        here."""
        message = printable(f"hb.{self.tool.name}: {text}")
        if self._is_the_program():
            raise SystemExit(message) from None
        raise EngineError(message) from error

    def _is_the_program(self) -> bool:
        """Whether this is Volatility's own command line, whose process ends with the plugin."""
        from volatility3 import cli  # loaded already where it matters; programs need not load it

        return isinstance(self._progress_callback, cli.PrintedProgress)


class TimedPlugin(ToolPlugin):
    """A tool's plugin that takes part in `timeliner.Timeliner`: mixed into a class that is a
    `TimeLinerInterface` too. `sources` are those of the tool `timeline`."""

    sources: ClassVar[tuple[str, ...]]

    def generate_timeline(self) -> Iterator[tuple[str, timeliner.TimeLinerType, datetime.datetime]]:
        """Each time with what happened then. Volatility keeps one time of a kind for each description: one
        that comes again is numbered."""
        from hybridbridge_vol.tools.events.collect import collect  # loads the tools

        seen: Counter[tuple[str, str]] = Counter()
        log = logging.getLogger(type(self).__module__)
        with self._opened() as session:
            for event in collect(session, self.sources):
                time = as_python(event.time, "time")
                if not isinstance(time, datetime.datetime):
                    reason = time.reason if isinstance(time, Unavailable) else event.text
                    log.warning("%s", printable(f"no time: {reason}"))
                    continue
                text = event.text if event.file is not None else f"{event.event}: {event.text}"
                number = max(seen[text, kind] for kind in event.kinds)
                seen.update((text, kind) for kind in event.kinds)
                shown = printable(text) + (f" (no. {number + 1})" if number else "")
                for kind in event.kinds:
                    yield shown, timeliner.TimeLinerType[kind.upper()], time


def title_of(column: Column) -> str:
    """The column's name. Volatility makes an identifier of it, which is possible for `CPU%` but not for
    `%CPU`, and for `FROM_` but not for a word of Python's as `FROM`."""
    name = column.name[1:] + "%" if column.name.startswith("%") else column.name
    return f"{name}_" if iskeyword(name.lower()) else name


def requirement_of(option: Option) -> interfaces.configuration.RequirementInterface:
    """A tool's option as a requirement of the plugin."""
    name, about, optional = option.name, option.help, not option.positional
    if option.many:
        return requirements.ListRequirement(
            name=name,
            description=about,
            element_type=option.type,
            optional=optional,
            min_elements=not optional,
        )
    kind = {
        bool: requirements.BooleanRequirement,
        int: requirements.IntRequirement,
        str: requirements.StringRequirement,
    }[option.type]
    return kind(name=name, description=about, optional=optional, default=option.default)


def address_of(text: str | None) -> int | None:
    """A physical address as `hb info` shows it; Volatility's own integers are decimal. OptionError."""
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        raise OptionError(f"not an address: {text!r}") from None


def image_path(location: str | None) -> str:
    """The path in the file: URL that Volatility made of `-f`. ImageError."""
    if not location:
        raise ImageError("no memory image: name one with -f FILE")
    url = urlparse(location)
    if url.scheme != "file":
        raise ImageError(f"{location}: only local files can be read: fetch it first")
    return url2pathname(url.path)


def value_of(cell: Cell, kind: Kind) -> object:
    """A cell as Volatility's renderers take it. Text is made printable here, because most renderers write it
    as it is."""
    if isinstance(cell, Unavailable):
        return renderers.UnreadableValue()
    if cell is None:
        return renderers.NotApplicableValue()
    if isinstance(cell, str) or kind == "duration":
        return as_text(cell, kind)
    if kind == "hex":
        return format_hints.Hex(cell)
    value = as_python(cell, kind)
    if isinstance(value, Unavailable):  # a time beyond the years of Python
        return renderers.UnparsableValue()
    return as_json(value, kind) if isinstance(value, float) else value
