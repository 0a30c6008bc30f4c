"""The same questions, asked of the same images by us, drgn, crash and Volatility, side by side in one run.

    python -m benchmarks.peers [--folder DIR] [--runs N] [--large] [--only-growth | --no-growth]

It downloads the others and, for drgn and crash, the kernel's debug symbols (600 MB) into `DIR`, by default in
the user's cache: so `make bench` does not call it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import measure, results
from benchmarks.commands import LARGE, SMALL
from benchmarks.peers import growth
from benchmarks.peers.elf_core import write_core
from benchmarks.peers.install import Peers, install
from hybridbridge_vol.trust.store import Store, user_cache
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import Sample, make_sample

QUESTIONS = {
    "processes": ("ps", "ps", "linux.pslist"),
    "modules": ("lsmod", "mod", "linux.lsmod"),
    "sockets": ("netstat --all", "", "linux.sockstat"),
    "open files": ("lsof", "foreach files", "linux.lsof"),
    "mounts": ("mounts", "mount", "linux.mountinfo"),
    "log": ("dmesg", "log", "linux.kmsg"),
}
"""By question: our tool, crash's command (empty: it answers for one process only), Volatility's plugin."""
DRGN = Path(__file__).with_name("drgn_questions.py")
TOOLS = ("hb", "drgn", "crash", "vol")
PART = "Beside other tools"
HB = (sys.executable, "-m", "hybridbridge_vol")


class Answers:
    """The command lines of one image for some of the tools. The core file and scripts for crash go into
    `folder`."""

    def __init__(self, sample: Sample, store: Path, peers: Peers, tools: Sequence[str], folder: Path) -> None:
        self._dump = str(sample.dump)
        self._store = str(store)
        self._peers = peers
        self._tools = tools
        self._folder = folder
        self._core = folder / "core"
        self._core.unlink(missing_ok=True)
        try:
            write_core(sample.dump, self._core)
        except (OSError, ValueError) as error:
            self._core.unlink(missing_ok=True)
            peers.missing["an ELF core"] = str(error)

    def lines(self, question: str) -> dict[str, Sequence[str]]:
        """How each tool that is there is asked."""
        ours, crash, plugin = QUESTIONS[question]
        peers = self._peers
        found: dict[str, list[str]] = {}
        found["hb"] = [*HB, "run", self._dump, *ours.split(), "--store", self._store]
        has_core = peers.vmlinux and self._core.exists()
        if peers.python and has_core:
            found["drgn"] = [str(peers.python), str(DRGN), str(self._core), str(peers.vmlinux), question]
        if peers.crash and has_core and crash:
            script = self._folder / f"{crash.replace(' ', '-')}.crash"
            script.write_text(f"{crash}\nquit\n")
            environment = f"LD_LIBRARY_PATH={peers.crash_libraries}"
            options = ["--kaslr=auto", "-s", "-i", str(script)]
            found["crash"] = [
                "env",
                environment,
                str(peers.crash),
                *options,
                str(peers.vmlinux),
                str(self._core),
            ]
        if peers.vol and peers.isf:
            found["vol"] = [str(peers.vol), "-q", "-s", str(peers.isf), "-f", self._dump, plugin]
        return {name: line for name, line in found.items() if name in self._tools}


def main() -> None:
    """Get the tools, measure, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, default=user_cache() / "peers", help="where the other tools go"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each command, after one that does not count")
    parser.add_argument("--large", action="store_true", help="ask the image of 4.5 GiB, too")
    parser.add_argument(
        "--tools", nargs="+", choices=TOOLS, default=TOOLS, help="those to ask: crash and vol take minutes"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only-growth", action="store_true", help="measure only how cost grows")
    which.add_argument("--no-growth", action="store_true", help="leave that out")
    args = parser.parse_args()
    sample = make_sample(SMALL)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "store")
        kernel = enroll(store, sample.kernel_package)
        if not args.only_growth:
            peers = install(args.folder, sample.kernel_package, kernel.name, store.root)
            images = [("256 MiB", sample)] + ([("4.5 GiB", make_sample(LARGE))] if args.large else [])
            text: list[str] = []
            for size, image in images:
                answers = Answers(image, store.root, peers, args.tools, Path(scratch))
                for table in _compare(size, answers, args.runs):
                    # after each row: a run that is ended leaves what it has
                    results.write(PART, [*_circumstances(sample, args.runs, peers), *text, *table])
                text += table
        if not args.no_growth:
            growth.measure_growth(sample, store.root, Path(scratch), args.runs)


def _circumstances(sample: Sample, runs: int, peers: Peers) -> list[str]:
    lines = results.circumstances(
        f"Kernel {sample.kernel_package.name}. Seconds of processor time, and by the clock, of whole",
        f"commands; medians of {runs}, in turns; in brackets lines of the answer. The machine is shared and",
        "noisy: the ratios count. drgn and crash have 590 MB of debug symbols in hand and read an ELF core",
        "made of the raw image, Volatility a symbol table by `hb isf`, its cache filled. Their answers are",
        "not the same as ours: see the lines.",
    )
    return lines + [f"Not here: {name} ({why})." for name, why in peers.missing.items()] + [""]


def _compare(size: str, answers: Answers, runs: int) -> Iterator[list[str]]:
    """The table of one image, as it grows row by row."""
    header = (f"{size}: CPU s; wall s (lines)", *TOOLS, "drgn / hb, CPU", "vol / hb, CPU")
    rows: list[list[str]] = []
    for question in QUESTIONS:
        lines = answers.lines(question)
        counts = {name: _count(line) for name, line in lines.items()}
        works = {name: line for name, line in lines.items() if counts[name] >= 0}
        rows.append(_row(question, measure.commands(works, runs, warm_ups=0), counts))
        yield results.table(header, rows)


def _count(line: Sequence[str]) -> int:
    """Lines of the answer, of a first run that is not timed; -1 if the command fails."""
    done = subprocess.run(line, check=False, capture_output=True, stdin=subprocess.DEVNULL)
    return -1 if done.returncode else len(done.stdout.splitlines())


def _row(question: str, found: Mapping[str, measure.Measured], counts: Mapping[str, int]) -> list[str]:
    cells = [
        f"{found[name].cpu:.2f}; {found[name].wall:.2f} ({counts[name]})"
        if name in found
        else ("failed" if name in counts else "-")
        for name in TOOLS
    ]
    ours = found["hb"].cpu
    ratios = [f"{found[name].cpu / ours:.1f}" if name in found else "-" for name in ("drgn", "vol")]
    return [question, *cells, *ratios]


if __name__ == "__main__":
    main()
