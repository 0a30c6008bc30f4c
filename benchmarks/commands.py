"""What the main job costs: whole commands, attaching, adding a kernel. `make bench` runs this."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import measure, results
from hybridbridge_vol.guest.session import open_session
from samples.make import Sample, Spec, make_sample

BIN = Path(sys.executable).parent
SMALL = Spec("6.1-cloud", seed=21)
LARGE = Spec("6.1-cloud", seed=21, ram=4608 << 20)


def main() -> None:
    """Make the images, measure, write the table."""
    small, large = make_sample(SMALL), make_sample(LARGE)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        # in a process of its own: the peak memory of a child begins with its parent's
        measure.once([str(BIN / "hb"), "trust", "add", str(small.kernel_package), "--store", folder])
        rows = command_rows(small, large, store) + attach_rows(small, large, store) + [add_row(small)]
    lines = results.circumstances(
        f"Kernel {small.kernel_package.name}; images of 256 MiB and 4.5 GiB, {len(small.truth.processes)} "
        "processes.",
        "Medians of 7 runs (5 of `hb trust add`); the machine is shared and noisy: the ratios and "
        "differences count.",
    )
    lines += ["| what | measured | wanted |", "|---|---|---|"]
    lines += [f"| {what} | {measured} | {wanted} |" for what, measured, wanted in rows]
    results.write("Whole commands", lines)


def command_rows(small: Sample, large: Sample, store: Path) -> list[tuple[str, str, str]]:
    """Whole commands, side by side."""
    at_store = ["--store", str(store)]
    vol, hb = str(BIN / "vol"), str(BIN / "hb")
    results = measure.commands(
        {
            "help": [vol, "-h"],
            "plugin": [vol, "-q", "-f", str(small.dump), "hb.ps", *at_store],
            "hb": [hb, "run", str(small.dump), "ps", *at_store],
            "hb large": [hb, "run", str(large.dump), "ps", *at_store],
            "python": [sys.executable, "-c", "pass"],
        }
    )
    help_, plugin, tool, big = (results[name] for name in ("help", "plugin", "hb", "hb large"))
    difference = (
        f"{plugin.wall - help_.wall:.2f} s ({plugin.wall:.2f} - {help_.wall:.2f}; "
        f"CPU {plugin.cpu - help_.cpu:.2f} s)"
    )
    return [
        ("`vol -f dump.raw hb.ps` more than `vol -h`", difference, "0.5 s"),
        ("`hb run dump.raw ps`, 256 MiB", _range(tool), "0.35 s"),
        ("`hb run dump.raw ps`, 4.5 GiB", _range(big), ""),
        ("peak memory of it on 4.5 GiB", f"{big.peak_mib:.0f} MiB", "400 MiB"),
        ("`python -c pass`, for comparison", f"{results['python'].wall:.2f} s", ""),
    ]


def _range(item: measure.Measured) -> str:
    return f"{item.wall:.2f} s ({item.fastest:.2f} to {item.slowest:.2f})"


def attach_rows(small: Sample, large: Sample, store: Path) -> list[tuple[str, str, str]]:
    """Opening a session: finding the kernel, attaching, mounting the snapshot's /proc."""

    def once(sample: Sample) -> None:
        with open_session(sample.dump, store) as session:
            session.files.stat("/proc")

    def opening(sample: Sample) -> float:
        return 1000 * measure.seconds(lambda: once(sample))

    return [
        ("opening a session, 256 MiB", f"{opening(small):.0f} ms", "60 ms"),
        ("opening a session, 4.5 GiB", f"{opening(large):.0f} ms", "as 256 MiB"),
    ]


def add_row(sample: Sample) -> tuple[str, str, str]:
    """Adding a kernel, to an empty store each time."""
    with tempfile.TemporaryDirectory() as folder:
        line = [str(BIN / "hb"), "trust", "add", str(sample.kernel_package), "--store"]
        runs = [measure.once([*line, f"{folder}/{i}"])[0] for i in range(5)]
    return "`hb trust add` of a cloud kernel", f"{statistics.median(runs):.1f} s", "5 s"


if __name__ == "__main__":
    main()
