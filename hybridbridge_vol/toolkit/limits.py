"""Running a tool within limits: on no image does it take all of this machine."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import LimitReached
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Options, Row, Tool

MAX_ROWS = 8_000_000
"""Of one answer: those of a timeline, which has the most. Others reach the limit of memory before."""
_CHECK_EVERY = 64
"""Rows between two looks at what was taken: each costs as much as a row."""


def limited_rows(tool: Tool, kernel: GuestKernel, options: Options) -> Iterator[Row]:
    """The tool's rows. Where it takes more than it may (`Tool.seconds`, `Tool.memory`, or `MAX_ROWS`), those
    up to there, and one that says so in each cell; that, too, where some may be missing
    (`Allowance.lacking`)."""
    allowance = kernel.allowance
    begun = allowance.begin(tool.seconds, tool.memory)
    reached = ""
    try:
        for number, row in enumerate(tool.rows(kernel, options)):
            if number == MAX_ROWS:
                reached = f"the limit of the tool was reached ({MAX_ROWS:,} rows)"
                break
            if number % _CHECK_EVERY == 0:
                allowance.check()
            yield row
    except LimitReached as error:
        reached = str(error)
    finally:
        allowance.end(begun)
    reached = reached or allowance.reached
    columns = tool.columns_for(options)
    end = f"the rows end here: {reached}" if reached else allowance.lacking
    if end and columns:
        yield Row((Unavailable(end),) * len(columns))
