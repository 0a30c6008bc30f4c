"""timeline: everything that has a time, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from hybridbridge_vol.allowance import LONG_ANSWER_MEMORY, LONG_ANSWER_SECONDS
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.given_time import given_time
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

if TYPE_CHECKING:
    from hybridbridge_vol.tools.events.collect import Event


class Timeline(Tool):
    name = "timeline"
    help = "Everything that has a time, in one table: processes, files, logins, log, histories, passwords"
    notes = (
        "The events of every tool that knows times (ps, files with all four times, dmesg, logins, users, "
        "containers, uptime, trace buffers, loaded BPF programs, and where the kernel keeps times tracked "
        "connections, handshakes of wireguard, IPsec states), and commands in histories of shells that keep "
        "times, by their time. No kernel keeps when a module was loaded: see dmesg and trace. MACB: "
        "modified, accessed, changed, born, as mactime writes them. --body writes The Sleuth Kit's body "
        "file for mactime and Plaso, --timesketch-csv and --jsonl what Timesketch takes (message, datetime, "
        "timestamp, timestamp_desc); these have only events with a time, and what could not be read goes to "
        "standard error. A password's change is known by the day. In Volatility the plugins of these tools "
        "take part in timeliner.Timeliner."
    )
    example = "--source logins --source ps"
    runs_kernel = False  # but by other tools, which are trained by themselves
    options = (
        Option(
            "source", str, "only events of these: ps, files, dmesg, logins, history ...", many=True, short="s"
        ),
        Option("after", str, "only events since then: 2026-11-23 or 2026-11-23T05:30Z"),
        Option("before", str, "only events before then"),
        Option("body", bool, "a body file for mactime and Plaso"),
        Option("timesketch-csv", bool, "CSV for Timesketch"),
        Option("jsonl", bool, "JSON lines for Timesketch"),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("TIME", "time", "when"),
        Column("MACB", "str", "modified, accessed, changed, born"),
        Column("SOURCE", "str", "the tool that knows it, or history"),
        Column("EVENT", "str", "what happened"),
        Column("USER", "str", "whose it is, if that is known"),
        Column("WHAT", "str", "to what"),
    )

    seconds, memory = LONG_ANSWER_SECONDS, LONG_ANSWER_MEMORY

    def wants_raw(self, options: Options, terminal: bool) -> bool:
        return _form(options) is not None

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        _form(options)
        for event in _chosen(kernel, options):
            yield Row((event.time, event.letters, event.source, event.event, event.user, event.text))

    def raw(self, kernel: GuestKernel, options: Options) -> Iterator[bytes | Unavailable]:
        """The events in the form that is asked for."""
        form = _form(options)
        assert form is not None
        return form(_chosen(kernel, options))


def _form(options: Options) -> Callable[[Iterable[Event]], Iterator[bytes | Unavailable]] | None:
    """Writes the events in the form that is asked for; None for a table. OptionError for two of them."""
    asked = [name for name in ("body", "timesketch-csv", "jsonl") if options[name]]
    if len(asked) > 1:
        raise OptionError(f"--{asked[0]} and --{asked[1]}: give one of them")
    if not asked:
        return None
    from hybridbridge_vol.tools.events import formats  # csv and json, which the table needs not

    return {"body": formats.body, "timesketch-csv": formats.csv_lines, "jsonl": formats.json_lines}[asked[0]]


def _chosen(kernel: GuestKernel, options: Options) -> list[Event]:
    """The events by their time; behind them those that have none."""
    from hybridbridge_vol.tools.events.collect import collect, sources  # loads every tool

    known = sources()
    for name in options["source"]:
        if name not in known:
            raise OptionError(f"--source {name}: knows no times; there are {', '.join(known)}")
    after, before = given_time("after", options["after"]), given_time("before", options["before"])
    found = [
        event
        for event in collect(kernel, tuple(options["source"]) or tuple(known))
        if not isinstance(event.time, int | float)
        or ((after is None or event.time >= after) and (before is None or event.time < before))
    ]
    return sorted(found, key=_order)


def _order(event: Event) -> tuple[bool, float, str]:
    is_time = isinstance(event.time, int | float)
    return not is_time, float(event.time) if isinstance(event.time, int | float) else 0.0, event.source


TOOL = Timeline()
