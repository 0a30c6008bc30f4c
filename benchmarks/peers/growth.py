"""How the cost of an answer grows: with the size of the image, and with the number of processes."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from benchmarks import measure, results
from benchmarks.busy import BUSY
from samples.make import Sample, make_sample

SIZES = (1, 4, 16, 64, 256)
"""Times the size of the sample image; what is added is a hole, which reads as zeros."""
PROCESSES = (BUSY,)
"""Images with more processes than the sample image. A guest with 3,000 more had not started them after 24
minutes, under software emulation on a busy machine."""


def measure_growth(sample: Sample, store: Path, folder: Path, runs: int) -> None:
    """Measure `ps` on all of them, and write the table."""
    grown = folder / "grown.raw"
    shutil.copyfile(sample.dump, grown)
    size = os.path.getsize(grown)
    rows = []
    for times in SIZES:
        os.truncate(grown, size * times)
        rows.append((_of_size(size * times), len(sample.truth.processes), _measured(grown, store, runs)))
    grown.unlink()
    for spec in PROCESSES:
        image = make_sample(spec)
        rows.append((_of_size(spec.ram), len(image.truth.processes), _measured(image.dump, store, runs)))
    text = results.circumstances(
        f"Kernel {sample.kernel_package.name}; `hb run dump.raw ps`, with a memo; medians of {runs}.",
        "The images of one number of processes are one image, made longer by a hole.",
    )
    text += results.table(
        ("image", "processes", "CPU, s", "wall, s"),
        (
            (name, f"{processes:,}", f"{found.cpu:.2f}", f"{found.wall:.2f}")
            for name, processes, found in rows
        ),
    )
    results.write("How cost grows", text)


def _of_size(size: int) -> str:
    return f"{size / (1 << 30):g} GiB"


def _measured(dump: Path, store: Path, runs: int) -> measure.Measured:
    line = [sys.executable, "-m", "hybridbridge_vol", "run", str(dump), "ps", "--store", str(store)]
    return measure.commands({"ps": line}, runs)["ps"]
