"""All tools of the paper, and the same as native programs, beside the paper's figures.

Writes its parts of `benchmarks/RESULTS.md`, and pictures into `docs/`. `make bench` runs this.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import results, works
from benchmarks.alone import open_alone
from benchmarks.paper import chart, fall_backs, notes, tables
from benchmarks.paper.fall_backs import Filling
from benchmarks.paper.figures import TOOLS
from benchmarks.paper.tables import FAST, LIMIT, ORDINALS, SLOW
from benchmarks.side_by_side import SLICE_SECONDS, SLICES, Counted, count, side_by_side
from benchmarks.works import Work
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.native.launch import check_host
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples import native_programs
from samples.compiler import compile_static
from samples.make import Sample, Spec, make_sample

SPECS = [Spec("6.1-cloud", seed=seed) for seed in range(21, 26)]
"""The first is the one on which times are measured."""
RUNS = 3
ROUNDS, AGAIN = 2, 3
"""Of all works in a session that fills the memo, and of each: a second look-up goes other ways than the
first, and what was closed is released later."""
MOST_SESSIONS = 5
"""That fill the memo. One that does not trap is the last: only there are calls made together."""
NOT_ALONE = ("netstat",)
"""Asks sock_diag, by modules that only a snapshot's kernel is given."""
ALL = "all of these, one memo"

COMMANDS = {
    "getpid": "getpid", "gettime": "gettime", "hostname": "hostname", "uname": "uname -a", "arp": "arp -an",
    "uptime": "uptime", "free": "free", "lsmod": "lsmod", "netstat": "netstat -an", "vmstat": "vmstat",
    "iostat": "iostat", "dmesg": "dmesg", "mpstat": "mpstat", "ps": "ps aux", "pidstat": "pidstat",
}  # fmt: skip
"""The paper's 15 as native programs: Debian's, and two of our own."""
OWN = ("getpid", "gettime")
OWN_SOURCES = Path(__file__).with_name("programs")
DOCS = Path(__file__).parents[2] / "docs"
TRAPS_PICTURE, SECONDS_PICTURE = "fall-backs.svg", "fall-backs-seconds.svg"

Opened = Callable[[], Session]


def main() -> None:
    """Make the images, measure, write tables and pictures: of both parts, or of those that are named."""
    parts: dict[str, Callable[[Sequence[Sample], Store], None]] = {
        "tools": measure_tools,
        "programs": measure_programs,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=main.__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; default: all")
    chosen = parser.parse_args().parts or list(parts)
    if not parts.keys() >= set(chosen):
        parser.error(f"a part is one of {', '.join(parts)}")
    samples = [make_sample(spec) for spec in SPECS]
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            enroll(store, samples[0].kernel_package)
            parts[name](samples, store)


# --- tools ------------------------------------------------------------------------------------------------


def measure_tools(samples: Sequence[Sample], store: Store) -> None:
    """The paper's tools as HybridBridge's own."""
    named = {name: works.tool(name) for name in TOOLS}
    asked = list(named.values())
    fillings = fall_backs.fill(samples, store, [*asked, works.all_of(asked, ALL)])
    alike = works.alike_everywhere()
    here = fill_memo(samples[0], store, [*asked, *alike])
    bare: Opened = partial(open_alone, store.kernels()[0])
    with bare() as session:
        alone = count(session, [*(named[name] for name in TOOLS if name not in NOT_ALONE), *alike])
    opened = ways(samples[0], store)
    times = side_by_side([named[name] for name in NOT_ALONE], opened, RUNS)
    others = [work for work in [*asked, *alike] if work.name in alone]
    times |= side_by_side(others, opened | {LIMIT: bare}, RUNS)
    names = {name: work.name for name, work in named.items()}
    draw(fillings)
    results.write(
        "The paper's tables",
        [
            *circumstances(samples),
            *results.paragraph(notes.WORK),
            *tables.counts(names, here),
            *results.paragraph(notes.SLOW),
            *tables.slow_and_fast(names, times),
            *results.paragraph(notes.VIRTUOSO),
            *tables.virtuoso(names, here, times),
            *results.paragraph(notes.LIMIT.format(alike=tables.ALIKE)),
            *tables.limit(names, (work.name for work in alike), here, alone, times),
            *results.paragraph(notes.MEMO),
            *tables.memo(names, fillings),
            *results.paragraph(
                notes.TRAPS.format(orders=len(samples), traps=TRAPS_PICTURE, seconds=SECONDS_PICTURE)
            ),
            *tables.traps(fillings),
            *where_on_last(fillings),
            *tables.seconds(fillings),
        ],
    )


def ways(sample: Sample, store: Store) -> dict[str, Opened]:
    """A session under taint, and one that refuses to fall back."""
    opened = partial(open_session, sample.dump, store.root, processors=1)
    return {SLOW: partial(opened, mode=Mode.SLOW), FAST: partial(opened, mode=Mode.FAST)}


def fill_memo(sample: Sample, store: Store, asked: Sequence[Work]) -> dict[str, Counted]:
    """A full memo for these works on this image; then what they do, by their names."""
    for _ in range(MOST_SESSIONS):
        with open_session(sample.dump, store.root, processors=1) as session:
            calls = [work.prepare(session) for work in asked]
            for call in calls * ROUNDS:
                for _ in range(AGAIN):
                    call()
            if not session.statistics.total.traps:
                break
    with ways(sample, store)[FAST]() as session:
        return count(session, asked)


def draw(fillings: Mapping[str, Filling]) -> None:
    """Bars for each tool, one for each snapshot: traps, with those of opening the session, and seconds."""
    snapshots = [f"{ordinal} snapshot" for ordinal in ORDINALS[: len(SPECS)]]
    shown = {name.strip("`"): filling for name, filling in fillings.items() if name != ALL}
    traps = {
        name: [sum(both) for both in zip(filling.opening, filling.traps, strict=True)]
        for name, filling in shown.items()
    }
    seconds = {name: filling.seconds for name, filling in shown.items()}
    title = "Fall-backs to SLOW-BRIDGE, from an empty memo (opening a session included)"
    (DOCS / TRAPS_PICTURE).write_text(chart.bars(title, "traps", snapshots, traps))
    title = "Processor time of a session in which the tool is run once, from an empty memo"
    (DOCS / SECONDS_PICTURE).write_text(chart.bars(title, "seconds", snapshots, seconds))


# --- programs ---------------------------------------------------------------------------------------------


def measure_programs(samples: Sequence[Sample], store: Store) -> None:
    """The same as native programs."""
    check_host()
    with tempfile.TemporaryDirectory() as own:
        _measure_programs(samples, store, Path(own))


def _measure_programs(samples: Sequence[Sample], store: Store, folder: Path) -> None:
    """`folder` is for the programs that are made here."""
    for name in OWN:
        program = folder / name
        program.write_bytes(compile_static(OWN_SOURCES / f"{name}.c"))
        program.chmod(0o755)
    debian = str(native_programs.tools_folder())
    given = {name: (command, str(folder) if name in OWN else debian) for name, command in COMMANDS.items()}
    named = {name: works.program(*words) for name, words in given.items()}
    asked = list(named.values())
    fillings = fall_backs.fill(samples, store, asked)
    here = fill_memo(samples[0], store, asked)
    opened = ways(samples[0], store)
    with opened[FAST]() as session:
        intercepted = {named[name].name: works.intercepted(*words, session) for name, words in given.items()}
    times = side_by_side(asked, opened, RUNS)
    names = {name: work.name for name, work in named.items()}
    used = ("procps_", "sysstat_", "net-tools_", "kmod_", "hostname_", "coreutils_", "util-linux_")
    versions = ", ".join(
        sorted(path.stem for path in native_programs.packages() if path.name.startswith(used))
    )
    results.write(
        "The paper's tools as native programs",
        [
            *circumstances(samples, f"Programs of {versions}."),
            *results.paragraph(notes.PROGRAMS),
            *tables.programs(names, here, intercepted, times, fillings),
            *where_on_last(fillings),
        ],
    )


# --- text -------------------------------------------------------------------------------------------------


def circumstances(samples: Sequence[Sample], *more: str) -> list[str]:
    """What all tables of a part have in common."""
    processes = ", ".join(str(len(sample.truth.processes)) for sample in samples)
    general = notes.CIRCUMSTANCES.format(runs=RUNS, slices=SLICES, slice_ms=1000 * SLICE_SECONDS)
    return results.circumstances(
        f"Kernel {samples[0].kernel_package.name}; {len(samples)} images of 256 MiB, {processes} processes;",
        "every guest has its own workload and KASLR.",
        *more,
        *results.paragraph(general)[:-1],
    )


def where_on_last(fillings: Mapping[str, Filling]) -> list[str]:
    """Which tools trapped on the last snapshot, and where."""
    trapping = fall_backs.still_trapping(fillings)
    if not trapping:
        return [notes.NOTHING_ON_LAST, ""]
    places = (f"- {name}: {', '.join(f'`{where}`' for where in found)}" for name, found in trapping.items())
    return [notes.ON_LAST, "", *places, ""]


if __name__ == "__main__":
    main()
