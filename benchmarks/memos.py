"""What the memo costs and saves: the first run of a whole command, how large it gets, what is not in it.

Fall-backs of each tool: `benchmarks.paper`. `make bench` runs this.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure, results, works
from benchmarks.commands import BIN
from benchmarks.paper.figures import TOOLS
from benchmarks.results import number
from benchmarks.works import Work
from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.bridge.memo_for_kernel import load_memo, memo_key
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.memos import clear
from hybridbridge_vol.workflow.train import train
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import Sample, Spec, make_sample

SPECS = [Spec("6.1-cloud", seed=seed) for seed in range(21, 26)]
COMMAND_RUNS = 7


def main() -> None:
    """Make the images, measure, write the tables."""
    samples = [make_sample(spec) for spec in SPECS]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        enroll(store, samples[0].kernel_package)
        processes = ", ".join(str(len(sample.truth.processes)) for sample in samples)
        lines = results.circumstances(
            f"Kernel {samples[0].kernel_package.name}; {len(samples)} images of 256 MiB, "
            f"{processes} processes;",
            "every guest has its own workload and KASLR. The machine is shared and noisy: the ratios count.",
        )
        lines += first_runs(samples[0], store) + sizes(samples, store)
        results.write("The memo", lines)


# --- whole commands ---------------------------------------------------------------------------------------


def first_runs(sample: Sample, store: Store) -> list[str]:
    """`hb run` with an empty memo, with what that run has put there, and all under taint; in turns."""
    line = [str(BIN / "hb"), "run", str(sample.dump), "ps", "--store", str(store.root)]
    spent: dict[str, list[float]] = {"empty memo": [], "memo of that run": [], "`--bridge slow`": []}
    for turn in range(COMMAND_RUNS + 1):
        clear(store, None)
        seconds = [measure.once(words)[1] for words in (line, line, [*line, "--bridge", "slow"])]
        if turn:  # the first is a warm-up
            for times, passed in zip(spent.values(), seconds, strict=True):
                times.append(passed)
    medians = {name: statistics.median(times) for name, times in spent.items()}
    empty, full, _slow = medians.values()
    rows = [
        [name, number(medians[name]), number(min(times)), number(max(times)), number(medians[name] / full)]
        for name, times in spent.items()
    ]
    return [
        *results.paragraph(
            f"Processor time of the whole command `hb run dump.raw ps` (medians of {COMMAND_RUNS} runs, in "
            f"turns). The first run costs {number(empty - full)} s more than the next."
        ),
        *results.table(["`hb run dump.raw ps`", "seconds", "fastest", "slowest", "ratio"], rows),
    ]


# --- sizes ------------------------------------------------------------------------------------------------


def sizes(samples: Sequence[Sample], store: Store) -> list[str]:
    """How large the memo is after the tools, and after training; what traps are left then."""
    asked = [works.tool(name) for name in TOOLS]
    rows = []
    clear(store, None)
    ask_twice(samples[0], store, asked)
    rows.append(["the paper's tools, 1 image", *size(store)])
    for sample in samples[1:]:
        ask_twice(sample, store, asked)
    rows.append([f"the paper's tools, {len(samples)} images", *size(store)])
    clear(store, None)
    train(samples[0].dump, store.root)
    rows.append(["`hb train`, 1 image", *size(store)])
    same, other = (left(sample, store, asked) for sample in samples[:2])
    for sample in samples[1:]:
        train(sample.dump, store.root)
    rows.append([f"`hb train`, {len(samples)} images", *size(store)])
    return [
        *results.paragraph(
            "Size of the memo. After `hb train` on one image the paper's tools, each run twice in a session, "
            f"still trap {same} times on it and {other} times on another."
        ),
        *results.table(
            ["memo after", "file, KiB", "proven code, KiB", "of the kernel's text", "ranges"], rows
        ),
    ]


def size(store: Store) -> list[str]:
    """File, proven code, its share of the kernel's text, ranges."""
    (kernel,) = store.kernels()
    memo = load_memo(kernel)
    file = memo_file.memo_path(kernel.folder, memo_key(kernel)).stat().st_size
    text = kernel.symbols.address("_etext") - kernel.text_link_vaddr
    return [
        f"{file / 1024:.0f}",
        f"{len(memo) / 1024:.0f}",
        f"{100 * len(memo) / text:.1f} %",
        f"{len(list(memo.text.ranges())):,}",
    ]


def left(sample: Sample, store: Store, asked: Sequence[Work]) -> int:
    """Traps of a session in which each tool is run twice; the memo stays as it was."""
    (kernel,) = store.kernels()
    path = memo_file.memo_path(kernel.folder, memo_key(kernel))
    kept = path.read_bytes()
    traps = ask_twice(sample, store, asked)
    path.write_bytes(kept)
    return traps


def ask_twice(sample: Sample, store: Store, asked: Sequence[Work]) -> int:
    """Traps of a session in which each tool is run twice."""
    with open_session(sample.dump, store.root, processors=1) as session:
        for work in asked:
            call = work.prepare(session)
            call(), call()
        return session.statistics.total.traps


if __name__ == "__main__":
    main()
