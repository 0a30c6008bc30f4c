"""`python -m benchmarks.hostile run` makes mutants of one image; `report` writes the table of all runs;
`guest` makes an image, and the same guest's memory some seconds before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.hostile import campaign
from benchmarks.hostile.campaign import CLASSES
from benchmarks.hostile.moments import make_moments
from benchmarks.hostile.mutants import KINDS, SMEAR
from benchmarks.hostile.trial import (
    DEAR,
    DEAR_SHARE,
    DEAR_TOUCHED_SHARE,
    MOST_SECONDS,
    OTHER_SHARE,
    TRACED_SHARE,
)
from samples.make import Spec

PART = "Hostile images"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="benchmarks.hostile", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run")
    run.add_argument("image", type=Path, help="a raw image")
    run.add_argument("--store", type=Path, required=True)
    run.add_argument("--count", type=int, default=200)
    run.add_argument("--seed", type=int, default=1)
    run.add_argument(
        "--seconds", type=float, default=float("inf"), help="end after so long, by the wall clock"
    )
    run.add_argument("--moment", type=Path, help="memory of the same guest at another time")
    run.add_argument("--out", type=Path, required=True, help="a line for each mutant is added to this file")
    run.set_defaults(execute=_run)
    guest = commands.add_parser("guest", help="make an image with an earlier moment, for --moment")
    guest.add_argument("kernel", help="as 'python -m samples --kernel' takes it")
    guest.add_argument("--out", type=Path, required=True, help="a folder")
    guest.add_argument("--seed", type=int, default=1)
    guest.set_defaults(execute=_guest)
    report = commands.add_parser("report")
    report.add_argument("files", type=Path, nargs="+")
    report.set_defaults(execute=_report)
    args = parser.parse_args()
    args.execute(args)


def _run(args: argparse.Namespace) -> None:
    verdicts = campaign.run(
        args.image, args.store, args.count, args.seed, args.out, args.moment, args.seconds
    )
    for number, verdict in enumerate(verdicts):
        for failure in verdict.failures:
            print(f"{number}: {failure}", flush=True)


def _guest(args: argparse.Namespace) -> None:
    for path in make_moments(Spec(args.kernel, seed=args.seed, light=True), args.out):
        print(path)


def _report(args: argparse.Namespace) -> None:
    records = [json.loads(line) for path in args.files for line in path.read_text().splitlines()]
    results.write(PART, lines_of(records))


def lines_of(records: list[dict[str, Any]]) -> list[str]:
    """The part of RESULTS.md about these mutants."""
    images = sorted({record["image"] for record in records})
    tools = sum(record["tools"] for record in records)
    seconds = sum(record["seconds"] for record in records)
    longest = max((record["longest"][::-1] for record in records), default=(0.0, ""))
    lines = results.circumstances(
        f"{len(records):,} mutants of {len(images)} images ({', '.join(images)}), {tools:,} runs of tools,",
        f"{seconds / 3600:.1f} hours of processor time. The longest run: `{longest[1]}`, {longest[0]:.0f} s; "
        f"the most memory of a process: {max(record['memory'] for record in records) >> 20} MiB.",
        "Every tool that reads a changed byte on the good image, by the kernel's code or by Python, is run;",
        f"others would answer as before, and are run on a part of the mutants ({TRACED_SHARE:.0%} of those",
        f"whose rows are compared, {OTHER_SHARE:.0%} of others, {DEAR_SHARE:.0%} of the dear ones,",
        f"which are run on {DEAR_TOUCHED_SHARE:.0%} where they do: {', '.join(DEAR)}).",
        f"Every mutant is opened anew; a tool may take {MOST_SECONDS:.0f} s, six times as much under taint.",
        "A row counts as changed if the tool says that its answer is complete and a row of the good",
        "image is not in it. Why, the good image says, of which every read was noted, under taint: the",
        "row shows a changed byte; a call that answered it read one (a pointer on the way, a length, a",
        "name); one was read when the image was opened (its layout, clocks, page tables); another call read",
        "one (lists, totals, the order of rows, what a session keeps); or nothing did. The last is a",
        "failure, as are a signal, a traceback, a limit that was exceeded, an image that was written, and a",
        "row of the trusted side.",
    )
    kinds = [kind for kind in (*KINDS, SMEAR) if any(record["kind"] == kind for record in records)]
    rows = [_line(kind, [record for record in records if record["kind"] == kind]) for kind in kinds]
    header = (
        "kind of change", "mutants", "failures", "not opened", "tools not run", "complete", "partial",
        "error", "ended by a limit", "rows compared", "changed", *CLASSES,
    )  # fmt: skip
    return [*lines, *results.table(header, [*rows, _line("all", records)])]


def _line(kind: str, records: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    found = list(records)

    def statuses(name: str) -> int:
        return sum(record["statuses"].get(name, 0) for record in found)

    counts = (
        len(found), sum(bool(record["failures"]) for record in found),
        sum(bool(record["opening"]) for record in found),
        sum(record.get("not run", 0) for record in found), statuses("complete"), statuses("partial"),
        statuses("error"), statuses("limit"), sum(record["rows"] for record in found),
        sum(sum(record["changed"].values()) for record in found),
        *(sum(record["changed"].get(name, 0) for record in found) for name in CLASSES),
    )  # fmt: skip
    return (kind, *(f"{count:,}" for count in counts))


if __name__ == "__main__":
    main()
