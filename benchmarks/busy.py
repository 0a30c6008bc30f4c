"""What each tool costs on a busy machine's image: hundreds of processes, 4.5 GiB. `make bench` runs this."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import measure, results
from hybridbridge_vol import tools
from samples.make import Spec, make_sample

BIN = Path(sys.executable).parent
BUSY = Spec("6.1-cloud", seed=33, ram=4608 << 20, cpus=2, processes=600)
RUNS = 3
WANTED = {"ps": 0.8}
"""Seconds that a whole command may take beyond `vol -h`; the others `WANTED_OF_OTHERS`."""
WANTED_OF_OTHERS = 1.5


def main() -> None:
    """Make the image, measure, write the table."""
    sample = make_sample(BUSY)
    names = [
        name for name in tools.NAMES if not any(option.positional for option in tools.load(name).options)
    ]
    with tempfile.TemporaryDirectory() as folder:
        for words in (["trust", "add", str(sample.kernel_package)], ["train", str(sample.dump)]):
            # in a process of its own: the peak memory of a child begins with its parent's
            measure.once([str(BIN / "hb"), *words, "--store", folder])
        line = [str(BIN / "vol"), "-q", "-f", str(sample.dump)]
        lines = {name: [*line, f"hb.{name}", "--store", folder] for name in names}
        found = measure.commands({"-h": [str(BIN / "vol"), "-h"], **lines}, RUNS)
    nothing = found.pop("-h")
    text = results.circumstances(
        f"Kernel {sample.kernel_package.name}; an image of 4.5 GiB, {len(sample.truth.processes)} processes, "
        "2 CPUs.",
        f"Medians of {RUNS} runs of the whole command `vol -f dump.raw hb.TOOL`, in turns with `vol -h` "
        f"({nothing.wall:.2f} s; CPU {nothing.cpu:.2f} s), which is subtracted; the memo covers every tool.",
    )
    text += results.table(
        ("tool", "beyond `vol -h`, s", "wanted, s", "of it CPU, s", "peak, MiB"),
        (
            (
                f"`hb.{name}`",
                f"{item.wall - nothing.wall:.2f}",
                f"{WANTED.get(name, WANTED_OF_OTHERS):.1f}",
                f"{item.cpu - nothing.cpu:.2f}",
                f"{item.peak_mib:.0f}",
            )
            for name, item in sorted(found.items(), key=lambda pair: -pair[1].wall)
        ),
    )
    results.write("A busy machine", text)


if __name__ == "__main__":
    main()
