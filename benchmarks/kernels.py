"""Every kernel that can be had here: its time to be trusted, its fidelity, whether both bridges agree, and
what `check` and `hidden` say of a clean guest. Writes the table of docs/kernels.md.

    python -m benchmarks.kernels [NAME...]

By default Debian's kernels. Those that samples/kernel_builds.py builds are measured when they are named:
their builds take long. A row replaces that of the same kernel and keeps the others as they are.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

from benchmarks import measure, results
from benchmarks.fidelity import compare
from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from samples.kernels import modules_package
from samples.make import Sample, Spec, make_sample

PAGE = Path(__file__).parents[1] / "docs" / "kernels.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
YARDSTICK = "Debian 6.1 cloud"
"""Whose time to be trusted the others' are given in."""
KERNELS = {
    "Debian 5.10 cloud": Spec("5.10-cloud", seed=11, kaslr=False),
    YARDSTICK: Spec("6.1-cloud", seed=12, cpus=2),
    "Debian 6.1 amd64": Spec("6.1-amd64", seed=16, light=True, append="pti=on"),
    "Debian 6.1 rt": Spec("6.1-rt", seed=16, light=True, cpus=2),
    "Debian 6.12 cloud": Spec("6.12-cloud", seed=13),
    "Debian 6.12 amd64": Spec("6.12-amd64", seed=16, light=True, cpus=4, ram=512 << 20),
    "Debian 6.12 rt": Spec("6.12-rt", seed=20, light=True, cpus=2, ram=512 << 20),
    "Debian 7.x cloud": Spec("7-cloud", seed=24, cpus=2),
    "Debian 7.x amd64": Spec("7-amd64", seed=18, light=True, ram=512 << 20),
    "Debian 7.x rt": Spec("7-rt", seed=19, light=True, cpus=2, ram=512 << 20),
    "built-cfi": Spec("built-cfi", seed=21, light=True),
    "built-thinlto": Spec("built-thinlto", seed=21, light=True),
    "built-fineibt": Spec("built-fineibt", seed=21, light=True),
    "built-hardened": Spec("built-hardened", seed=21, light=True),
    "built-fedora": Spec("built-fedora", seed=21, light=True, cpus=2, ram=512 << 20),
    "built-lockdep": Spec("built-lockdep", seed=21, light=True, ram=512 << 20),
    "built-single": Spec("built-single", seed=23, light=True),
    "built-microvm": Spec("built-microvm", seed=24, light=True, cpus=2),
}
BOTH_BRIDGES = (
    "getpid", "gettime", "hostname", "uname", "arp", "uptime", "free", "lsmod", "netstat", "vmstat", "iostat",
    "dmesg", "mpstat", "ps", "pidstat", "lsof", "ss", "ip", "mounts",
)  # fmt: skip
"""Tools whose rows under SLOW-BRIDGE are compared with those under FAST-BRIDGE."""
HEADER = (
    "kernel", "release", "CPUs", "files that could be equal", "equal", "for no known cause",
    "rows of `check`", "of `hidden`", "tools equal under both bridges", "`hb trust add`, CPU", "measured",
)  # fmt: skip


def trusted(sample: Sample, store: Path) -> float:
    """Add a sample's kernel and its modules with `hb trust add`: seconds of processor time."""
    beside = sample.kernel_package.with_name("System.map")
    symbols = ["--symbols", str(beside)] if beside.exists() else []
    packages = dict.fromkeys((sample.kernel_package, modules_package(sample.kernel_package)))
    command = [sys.executable, "-m", "hybridbridge_vol", "trust", "add", *map(str, packages), *symbols]
    return measure.once([*command, "--store", str(store)])[1]


def rows_of(name: str, session: Session) -> list[tuple[object, ...]] | str:
    """A tool's rows by default; the message if the kernel cannot answer."""
    tool = tools.load(name)
    options = tool.defaults()
    try:
        return [tuple(map(str, row.cells)) for row in tool.rows(session, options)]
    except (HybridBridgeError, OSError) as error:
        return str(error)


def findings_of(name: str, session: Session) -> str:
    """How many rows of `check` or `hidden` are findings, and how many only say what cannot be looked at."""
    tool = tools.load(name)
    rows = list(tool.rows(session, tool.defaults()))
    unreadable = sum(any(isinstance(cell, Unavailable) for cell in row.cells) for row in rows)
    return str(len(rows) - unreadable) + f", {unreadable} unreadable" * bool(unreadable)


def row(name: str, sample: Sample, seconds: float, yardstick: float, store: Path) -> tuple[str, ...]:
    """What is measured of one kernel, as `HEADER` names it."""

    def opened(mode: Mode) -> Session:
        return open_session(sample.raw, store, mode=mode)

    with opened(Mode.AUTO) as session:
        release = session.bridge.kernel.release
        found = compare(sample.truth, session)
        findings = [findings_of(tool, session) for tool in ("check", "hidden")]
        fast = {tool: rows_of(tool, session) for tool in BOTH_BRIDGES}
    with opened(Mode.SLOW) as session:
        agree = sum(rows_of(tool, session) == fast[tool] for tool in BOTH_BRIDGES)
    return (
        name,
        release,
        str(sample.meta["cpus"]),
        f"{found.files:,}",
        f"{100 * found.share:.2f} %",
        str(len(found.unexplained)),
        *findings,
        f"{agree} of {len(BOTH_BRIDGES)}",
        f"{seconds:.1f} s ({seconds / yardstick:.1f} x)",
        date.today().isoformat(),
    )


def merged(page: str, measured: Iterable[tuple[str, ...]]) -> str:
    """The page with these rows in its table: each in the place of that of the same kernel, or at the end."""
    before, begin, rest = page.partition(BEGIN)
    table, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("the page has no marks around its table")
    lines = [re.split(r" *\| *", line.strip("| ")) for line in table.splitlines() if line.startswith("|")]
    kept = {cells[0]: tuple(cells) for cells in lines[2:]}
    kept.update((cells[0], cells) for cells in measured)
    return f"{before}{BEGIN}" + "\n".join(results.table(HEADER, kept.values())) + f"{END}{after}"


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels", description=__doc__.split("\n\n")[0]
    )
    debian = [name for name in KERNELS if not name.startswith("built-")]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(KERNELS)} (default: Debian's)"
    )
    names = parser.parse_args(arguments).names or debian
    for unknown in sorted({*names} - {*KERNELS}):
        parser.error(f"{unknown}: no such kernel")
    with tempfile.TemporaryDirectory() as folder:
        yardstick = trusted(make_sample(KERNELS[YARDSTICK]), Path(folder, "yardstick"))
        for name in names:
            sample = make_sample(KERNELS[name])
            store = Path(folder, name)
            measured = row(name, sample, trusted(sample, store), yardstick, store)
            PAGE.write_text(merged(PAGE.read_text(), [measured]))
            say(" | ".join(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
