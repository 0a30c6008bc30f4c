"""The order of a batch: of each kernel one image first, then the others."""

from __future__ import annotations

from collections.abc import Sequence

from hybridbridge_vol.lab.batch.assembly import Assembly, unexamined
from hybridbridge_vol.lab.batch.dataset import Record, ToolRun
from hybridbridge_vol.lab.batch.events import ToolDone
from hybridbridge_vol.lab.batch.request import Request
from hybridbridge_vol.lab.batch.schedule import Schedule


def requests(*ids: str) -> list[Request]:
    return [Request(id, f"/nowhere/{id}", "/s", ("ps",)) for id in ids]


def ids(found: Sequence[Request]) -> list[str]:
    return [request.id for request in found]


def examined(id: str) -> Record:
    assembly = Assembly(*requests(id))
    assembly.take(ToolDone(ToolRun("ps", "ok")))
    return assembly.examination().record


def failed(id: str) -> Record:
    (request,) = requests(id)
    return unexamined(request, "no").record


def test_the_first_image_of_an_untrained_kernel_goes_alone() -> None:
    schedule = Schedule({"one": requests("a", "b", "c"), "two": requests("x", "y")}, trained=["two"])
    assert ids(schedule.first()) == ["a", "x", "y"]
    assert ids(schedule.after(examined("x"))) == []
    assert ids(schedule.after(examined("a"))) == ["b", "c"]


def test_if_it_fails_the_next_one_goes_alone() -> None:
    schedule = Schedule({"one": requests("a", "b", "c")}, trained=[])
    assert ids(schedule.first()) == ["a"]
    assert ids(schedule.after(failed("a"))) == ["b"]
    assert ids(schedule.after(examined("b"))) == ["c"]
