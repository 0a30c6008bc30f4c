"""How the memo fills: fall-backs from snapshot to snapshot, what the first run costs, how large it gets.

`make bench` runs this.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import measure, results
from benchmarks.bridges import Work, tool_works
from benchmarks.commands import BIN
from benchmarks.results import number
from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.bridge.memo_for_kernel import load_memo, memo_key
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.memos import clear
from hybridbridge_vol.workflow.train import train
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import Sample, Spec, make_sample

SPECS = [Spec("6.1-cloud", seed=seed) for seed in range(21, 26)]
RUNS, COMMAND_RUNS = 3, 7


class Answered(NamedTuple):
    """Tools on one image: traps while the session was opened and afterwards; seconds of all, opening
    included."""

    opening: float
    traps: float
    seconds: float


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
        for part in (fall_backs(samples, store), first_runs(samples[0], store), sizes(samples, store)):
            lines += part
        results.write("Memo and fall-backs", lines)


# --- fall-backs -------------------------------------------------------------------------------------------


def fall_backs(samples: Sequence[Sample], store: Store) -> list[str]:
    """Every tool from an empty memo of its own, then all together, on one image after the other."""
    works = tool_works()
    groups = {work.name: [work] for work in works} | {"all of these, one memo": works}
    answer(samples[0], store, works)  # what SLOW-BRIDGE needs is imported now
    seen = {name: [in_turn(samples, store, group) for _ in range(RUNS)] for name, group in groups.items()}
    medians = {name: [_median(image) for image in zip(*runs, strict=True)] for name, runs in seen.items()}
    ordinals = ["1st", "2nd", "3rd", "4th", "5th"][: len(samples)]
    opening = next(iter(medians.values()))
    traps = [["opening a session", *(f"{image.opening:.0f}" for image in opening)]]
    traps += [[name, *(f"{image.traps:.0f}" for image in images)] for name, images in medians.items()]
    seconds = [
        [name, *(number(image.seconds) for image in images), number(images[0].seconds / images[-1].seconds)]
        for name, images in medians.items()
    ]
    return [
        f"Traps from FAST-BRIDGE to SLOW-BRIDGE on the 1st to {ordinals[-1]} snapshot, from an empty memo",
        f"(medians of {RUNS} runs). Every tool has a memo of its own here; the traps of opening a session,",
        "which all of them need, are added to these.",
        "",
        *results.table(["traps", *ordinals], traps),
        "Seconds of the same, opening and closing the session included, the start of a process not:",
        "",
        *results.table(["seconds", *ordinals, f"1st / {ordinals[-1]}"], seconds),
    ]


def in_turn(samples: Iterable[Sample], store: Store, works: Sequence[Work]) -> list[Answered]:
    """From an empty memo, which each image leaves fuller to the next."""
    clear(store, None)
    return [answer(sample, store, works) for sample in samples]


def answer(sample: Sample, store: Store, works: Sequence[Work]) -> Answered:
    """A session in which each work is done once."""
    started = time.perf_counter()
    with open_session(sample.dump, store.root) as session:
        session.files.stat("/proc")  # mounts it
        opening = session.statistics.total.traps
        for work in works:
            work.prepare(session)()
        traps = session.statistics.total.traps - opening
    return Answered(opening, traps, time.perf_counter() - started)


def _median(answers: Iterable[Answered]) -> Answered:
    return Answered(*map(statistics.median, zip(*answers, strict=True)))


# --- whole commands ---------------------------------------------------------------------------------------


def first_runs(sample: Sample, store: Store) -> list[str]:
    """`hb run` with an empty memo, with what that run has put there, and all under taint; in turns."""
    line = [str(BIN / "hb"), "run", str(sample.dump), "ps", "--store", str(store.root)]
    walls: dict[str, list[float]] = {"empty memo": [], "memo of that run": [], "`--bridge slow`": []}
    for turn in range(COMMAND_RUNS + 1):
        clear(store, None)
        seconds = [measure.once(line)[0], measure.once(line)[0], measure.once([*line, "--bridge", "slow"])[0]]
        if turn:  # the first is a warm-up
            for times, passed in zip(walls.values(), seconds, strict=True):
                times.append(passed)
    medians = {name: statistics.median(times) for name, times in walls.items()}
    empty, full, _slow = medians.values()
    rows = [
        [name, number(medians[name]), number(min(times)), number(max(times)), number(medians[name] / full)]
        for name, times in walls.items()
    ]
    return [
        f"The whole command `hb run dump.raw ps` (medians of {COMMAND_RUNS} runs, in turns). The first run",
        f"costs {number(empty - full)} s more than the next.",
        "",
        *results.table(["`hb run dump.raw ps`", "seconds", "fastest", "slowest", "ratio"], rows),
    ]


# --- sizes ------------------------------------------------------------------------------------------------


def sizes(samples: Sequence[Sample], store: Store) -> list[str]:
    """How large the memo is after the tools, and after training; what traps are left then."""
    works = tool_works()
    rows = []
    clear(store, None)
    answer(samples[0], store, works)
    rows.append(["all these tools, 1 image", *size(store)])
    for sample in samples[1:]:
        answer(sample, store, works)
    rows.append([f"all these tools, {len(samples)} images", *size(store)])
    clear(store, None)
    train(samples[0].dump, store.root)
    rows.append(["`hb train`, 1 image", *size(store)])
    same, other = (left(sample, store) for sample in samples[:2])
    for sample in samples[1:]:
        train(sample.dump, store.root)
    rows.append([f"`hb train`, {len(samples)} images", *size(store)])
    return [
        "Size of the memo. After `hb train` on one image these tools, each run twice in a session, still",
        f"trap {same} times on it and {other} times on another.",
        "",
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


def left(sample: Sample, store: Store) -> int:
    """Traps of a session in which each tool is run twice; the memo stays as it was."""
    (kernel,) = store.kernels()
    path = memo_file.memo_path(kernel.folder, memo_key(kernel))
    kept = path.read_bytes()
    with open_session(sample.dump, store.root) as session:
        for work in tool_works():
            call = work.prepare(session)
            call(), call()
        traps = session.statistics.total.traps
    path.write_bytes(kept)
    return traps


if __name__ == "__main__":
    main()
