"""How fast YARA rules are searched for in a busy machine's image. `make bench` runs this."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure, results
from benchmarks.busy import BUSY
from samples.make import make_sample

BIN = Path(sys.executable).parent
RULES = 100
RUNS = 3
SEED = 7
_WORDS = (
    "beacon", "implant", "loader", "stager", "rootkit", "exfil", "dropper", "tunnel", "miner", "backdoor",
    "pivot", "inject",
)  # fmt: skip
_MODIFIERS = ("", "ascii wide", "nocase", "fullword")
_CONDITIONS = ("any of them", "all of them", "2 of them")


def main() -> None:
    """Make the image, measure, write the table."""
    sample = make_sample(BUSY)
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.yar"
        rules.write_text(made_rules(RULES, random.Random(SEED)))
        store = ["--store", folder]
        measure.once([str(BIN / "hb"), "trust", "add", str(sample.kernel_package), *store])
        line = [str(BIN / "hb"), "run", str(sample.dump), "yara", str(rules), "--jobs", "1", *store]
        lines: dict[str, Sequence[str]] = {scope: [*line, "--scope", scope] for scope in ("processes", "all")}
        found = measure.commands(lines, RUNS)
    text = results.circumstances(
        f'Kernel {sample.kernel_package.name}; the image of 4.5 GiB of "A busy machine", '
        f"{len(sample.truth.processes)} processes; {RULES} rules of two to five strings.",
        f"Seconds of processor time of the whole command with `--jobs 1`, medians of {RUNS} runs, with a "
        "memo; the machine is shared and noisy.",
    )
    rate = BUSY.ram / found["all"].cpu / 1e6
    text += results.table(
        ("what", "measured", "wanted"),
        (
            ("`yara --scope processes`", f"{found['processes'].cpu:.1f} s", ""),
            ("`yara --scope all`, all memory of the guest", f"{found['all'].cpu:.1f} s", ""),
            ("the same, of one core", f"{rate:.0f} MB/s", "150 MB/s"),
            ("peak memory", f"{found['all'].peak_mib:.0f} MiB", ""),
        ),
    )
    results.write("YARA", text)


def made_rules(count: int, draw: random.Random) -> str:
    """So many rules, of the kinds of strings that public ones have; they match nothing."""
    return "\n".join(
        f"rule made_{number} {{ strings: {_strings(draw)} condition: {draw.choice(_CONDITIONS)} }}"
        for number in range(count)
    )


def _strings(draw: random.Random) -> str:
    return " ".join(f"$s{number} = {_string(draw)}" for number in range(draw.randint(2, 5)))


def _string(draw: random.Random) -> str:
    kind, word = draw.random(), f"{draw.choice(_WORDS)}_{draw.choice(_WORDS)}"
    if kind < 0.45:
        return f'"{word}_{draw.getrandbits(16):04x}" {draw.choice(_MODIFIERS)}'
    if kind < 0.85:
        data = [f"{byte:02X}" for byte in draw.randbytes(draw.randint(8, 16))]
        for _ in range(draw.randint(0, 3)):
            data[draw.randrange(4, len(data))] = "??"
        return f"{{ {' '.join(data)} }}"
    return rf"/{word}[0-9a-f]{{4,8}}\.(php|aspx|jsp)/"


if __name__ == "__main__":
    main()
