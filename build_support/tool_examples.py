"""Records docs/tools/examples: what each tool answers on a sample image. `make examples` runs it.

A recording is the command of the tool's own example and the beginning of its output.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from hybridbridge_vol import tools
from hybridbridge_vol.cli.console import PARTIAL
from hybridbridge_vol.cli.run import example_of
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import Spec, make_sample

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "docs" / "tools" / "examples"
MOST_LINES, WIDEST = 14, 150
SECONDS = 300
SAMPLE = Spec("6.1-cloud", seed=12, cpus=2)
"""The image that the tests share too."""
PEOPLE = Spec("6.1-cloud", light=True, people=True)
"""The same with accounts, logins, containers, and all that starts by itself."""
FILTERS = Spec("6.1-cloud", light=True, filters=True)
"""The same with packet filters, tunnels and eBPF programs."""
HUNTED = Spec("6.1-cloud", light=True, hunt=True)
"""An attacked guest with the same kernel."""
ELSEWHERE = {
    **dict.fromkeys(("containers", "logins", "persistence", "timeline", "users"), PEOPLE),
    **dict.fromkeys(("bpf", "conntrack", "nft", "tc", "wireguard", "xfrm", "xtables"), FILTERS),
    **dict.fromkeys(("bash", "keys", "malfind", "owner", "queues", "yara"), HUNTED),
}
"""The tools for which the first has nothing to show."""

RULES = """
rule implant { strings: $code = { b8 22 00 00 00 0f 05 eb f7 } condition: $code }
rule token { strings: $a = "token-of-the-spy" condition: $a }
"""
"""For the example of yara."""


def record(name: str, image: Path, store: Path) -> str:
    """The command of a tool's example, and what it prints about an image. CalledProcessError."""
    tool = tools.load(name)
    shown = example_of(tool)
    command = [sys.executable, "-m", "hybridbridge_vol", *shown.split()[1:]]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dump.raw").symlink_to(image.resolve())
        (Path(folder) / "rules.yar").write_text(RULES)
        done = subprocess.run(
            [*command, "--store", str(store.resolve())],
            cwd=folder, env={"PYTHONPATH": str(ROOT), "HOME": str(Path.home())},
            capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False,
        )  # fmt: skip
    if done.returncode not in (0, PARTIAL):
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return f"$ {shown}\n" + trimmed(done.stdout)


def trimmed(output: str) -> str:
    """The first lines of an output, cut at `WIDEST` columns, and how many more there are."""
    lines = output.splitlines()
    if len(lines) == 1:
        lines.append("(no rows)")
    kept = [line if len(line) <= WIDEST else line[: WIDEST - 1] + "…" for line in lines[:MOST_LINES]]
    more = len(lines) - len(kept)
    return "".join(f"{line}\n" for line in kept) + (f"… {more} more lines\n" if more else "")


@contextlib.contextmanager
def samples(names: Iterable[str]) -> Iterator[tuple[dict[str, Path], Path]]:
    """The image of the page of each tool, made if it is missing, and a store that trusts their kernel."""
    specs = {name: ELSEWHERE.get(name, SAMPLE) for name in names}
    made = {spec: make_sample(spec) for spec in set(specs.values())}
    with tempfile.TemporaryDirectory() as folder:
        enroll(Store(Path(folder)), next(iter(made.values())).kernel_package)
        yield {name: made[spec].dump for name, spec in specs.items()}, Path(folder)


def main() -> int:
    """Record all tools, or those named."""
    parser = argparse.ArgumentParser(description="Record the examples of the tools' pages.")
    parser.add_argument("tools", metavar="TOOL", nargs="*", default=tools.NAMES, help="default: all")
    args = parser.parse_args()
    EXAMPLES.mkdir(parents=True, exist_ok=True)
    failed = False
    with samples(args.tools) as (images, store):
        for name, image in images.items():
            try:
                (EXAMPLES / f"{name}.txt").write_text(record(name, image, store))
            except subprocess.CalledProcessError as error:
                print(f"{name}: {error.stderr.strip() or error}", file=sys.stderr)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
