"""What a batch costs: CPU and memory per image, two workers against one, and what many sessions leave behind.

`make bench` runs this.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results
from benchmarks.results import number
from hybridbridge_vol import tools
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.dataset import Record
from hybridbridge_vol.lab.batch.request import PAPER_TOOLS
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import Spec, make_sample

SPEC = Spec("6.1-cloud", seed=21)
IMAGES = 24
RUNS = 3
SESSIONS, EARLY = 1000, 100


def main() -> None:
    """Make the image, measure, write the table."""
    sample = make_sample(SPEC)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        store = Store(work / "store")
        enroll(store, sample.kernel_package)
        evidence = work / "evidence"
        evidence.mkdir()
        for index in range(IMAGES):
            (evidence / f"host-{index:02}.raw").symlink_to(sample.dump)
        first = batch(evidence, store.root, work / "first", 1)[1]
        walls: dict[int, list[float]] = {1: [], 2: []}
        records: list[Record] = []
        for turn in range(RUNS):
            for jobs, times in walls.items():
                wall, records = batch(evidence, store.root, work / f"{turn}-{jobs}", jobs)
                times.append(wall)
        early, late = sessions(sample.dump, store.root)
    one, two = (statistics.median(times) for times in walls.values())
    cpu = statistics.median(record.cpu_seconds for record in records)
    rows = [
        ["CPU of the first image of a kernel", f"{first[0].cpu_seconds:.2f} s", ""],
        ["CPU of each further image, all 15 tools", f"{cpu:.2f} s", "1 s"],
        ["peak memory of a worker", f"{max(record.peak_rss for record in records) >> 20} MiB", "400 MB"],
        [f"whole batch of {IMAGES} images, 1 worker", f"{number(one)} s", ""],
        [f"whole batch of {IMAGES} images, 2 workers", f"{number(two)} s", ""],
        ["2 workers against 1", f"{one / two:.2f} times", "1.7 times"],
        [f"resident after {EARLY} sessions in one process", f"{early / 2**20:.1f} MiB", ""],
        [f"after {SESSIONS}", f"{late / 2**20:.1f} MiB ({100 * (late / early - 1):+.1f} %)", "5 %"],
    ]
    lines = results.circumstances(
        f"Kernel {sample.kernel_package.name}; {IMAGES} images of 256 MiB, "
        f"{len(sample.truth.processes)} processes, 15 tools each.",
        f"Medians of {RUNS} runs of `hb batch`, in turns. Memory includes the pages of the image's file that "
        "were touched.",
    )
    results.write("Batches", [*lines, *results.table(["what", "measured", "wanted"], rows)])


def batch(evidence: Path, store: Path, out: Path, jobs: int) -> tuple[float, list[Record]]:
    """A whole `hb batch` into a new dataset: seconds of wall-clock time, and its records, by path."""
    line = [
        sys.executable,
        "-m",
        "hybridbridge_vol",
        "batch",
        str(evidence),
        "--out",
        str(out),
        "--store",
        str(store),
    ]
    started = time.perf_counter()
    subprocess.run([*line, "--jobs", str(jobs)], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    return wall, sorted(dataset.records(out), key=lambda record: record.path)


def sessions(dump: Path, store: Path) -> tuple[int, int]:
    """Resident bytes after `EARLY` and after all `SESSIONS`: opened, every tool run, closed; in a process of
    its own."""
    line = [sys.executable, "-m", "benchmarks.batch", str(dump), str(store)]
    early, late = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return int(early), int(late)


def open_and_close(dump: str, store: str) -> None:
    """What `sessions` runs: prints the two numbers."""
    for turn in range(1, SESSIONS + 1):
        with open_session(dump, Path(store), processors=1) as session:
            for tool in map(tools.load, PAPER_TOOLS):
                for _row in tool.rows(session, tool.defaults()):
                    pass
        if turn in (EARLY, SESSIONS):
            print(resident(), flush=True)


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        open_and_close(*sys.argv[1:])
    else:
        main()
