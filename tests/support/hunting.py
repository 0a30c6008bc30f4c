"""Guests with attacks in user space (samples/guest/attacks.c), and the sessions on them."""

from __future__ import annotations

from typing import Any

from default_run import in_default_run
from generations import Lab

from hybridbridge_vol import tools
from hybridbridge_vol.guest.kernel import GuestKernel
from samples.make import Sample, Spec, make_sample

KERNELS = {
    "5.10 nokaslr": "5.10-cloud",
    "6.1 two CPUs": "6.1-cloud",
    "6.12": "6.12-cloud",
    "7.x": "7-cloud",
}
"""By the sample that shares its kernel, which is trusted already."""
GENERATIONS = in_default_run(KERNELS, "6.1 two CPUs")
CLEAN = "clean"


def hunted(lab: Lab, name: str, append: str = "") -> Sample:
    """The guest of one kernel; with `CLEAN` the one without the attacks."""
    lab.sample(name)
    return make_sample(Spec(KERNELS[name], light=True, hunt=True, append=append))


def ask(kernel: GuestKernel, name: str, **options: Any) -> list[dict[str, Any]]:
    """A tool's rows as dictionaries."""
    tool = tools.load(name)
    chosen = tool.defaults() | options
    columns = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(columns, row.cells, strict=True)) for row in tool.rows(kernel, chosen)]
