"""trace: what the guest's own buffer said, where tracefs was mounted and where it was not."""

from __future__ import annotations

from typing import Any

from attacks import ask, guest
from generations import Lab

from hybridbridge_vol.guest.session import open_session
from samples.make import Spec, make_sample

SAMPLE = "6.1 two CPUs"


def rows(lab: Lab, spec: Spec) -> tuple[list[dict[str, Any]], Any]:
    lab.sample(SAMPLE)  # its kernel is trusted from then on
    sample = make_sample(spec)
    with open_session(sample.dump, lab.store.root) as session:
        return ask(session, "trace"), sample.truth


def test_each_line_of_a_mounted_buffer_is_a_row(lab: Lab) -> None:
    shown, truth = rows(lab, Spec("6.1-cloud", light=True, pseudo=True))
    text = truth.late["/sys/kernel/tracing/trace"].data.decode()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(shown) == len(lines)
    for row, line in zip(shown, lines, strict=True):
        task = line.split(" [")[0].strip()
        assert task.startswith(f"{row['COMM']}-{row['PID']}")
        assert f"[{row['CPU']:03d}]" in line and f" {row['SECONDS']}: {row['EVENT']}: {row['TEXT']}" in line
    events = {row["EVENT"] for row in shown}
    assert {"name", "tracing_mark_write"} <= events
    assert any(row["TEXT"] == "a note of an intruder" for row in shown)


def test_a_buffer_is_read_where_tracefs_was_unmounted(lab: Lab) -> None:
    shown, truth = rows(lab, guest(SAMPLE, "all"))
    assert [(row["EVENT"], row["TEXT"]) for row in shown] == [("tracing_mark_write", "a note of an intruder")]
    (row,) = shown
    # the scheduler's clock is calibrated once: of a guest that was made on a busy host it was 18 s ahead
    uptime = truth.times["boottime"]
    assert -uptime < truth.times["realtime"] - row["WHEN"] < uptime


def test_events_stand_in_the_timeline(lab: Lab) -> None:
    lab.sample(SAMPLE)
    with open_session(make_sample(guest(SAMPLE, "all")).dump, lab.store.root) as session:
        (traced,), (event,) = ask(session, "trace"), ask(session, "timeline", source=("trace",))
    assert (event["TIME"], event["EVENT"]) == (traced["WHEN"], "traced: tracing_mark_write")
    assert "a note of an intruder" in event["WHAT"]
