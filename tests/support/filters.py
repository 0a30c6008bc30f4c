"""The guests with eBPF programs, packet filters and tunnels, and how tests ask about them."""

from __future__ import annotations

import re
from typing import Any

from default_run import in_default_run

from hybridbridge_vol import tools
from samples.make import Sample, Spec

FILTERS = {
    "6.1 filters": Spec("6.1-cloud", light=True, filters=True),
    "5.10 filters": Spec("5.10-cloud", light=True, filters=True),
    "6.12 filters": Spec("6.12-cloud", light=True, filters=True),
    "7.x filters": Spec("7-cloud", light=True, filters=True),
}
EACH = in_default_run(FILTERS, "6.1 filters")
"""The parameters of a test of all of them."""


def ask(session: Any, name: str, **options: Any) -> list[dict[str, Any]]:
    """The rows of a tool as dictionaries."""
    tool = tools.load(name)
    chosen = tool.defaults() | options
    names = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(names, row.cells, strict=True)) for row in tool.rows(session, chosen)]


def asked(sample: Sample) -> dict[str, str]:
    """What the guest's tools said when they were asked by samples/guest/ask_filters.sh, by command line."""
    parts = re.split(r"^==== (.*)\n", sample.truth.command("sh /srv/ask_filters.sh"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
