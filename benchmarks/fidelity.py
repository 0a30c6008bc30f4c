"""How faithful the bridge is: every file of /proc and /sys that a guest recorded right before the capture,
compared.

`make fidelity` runs this; the tests hold single images to it.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import results
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.kernels import modules_package
from samples.make import Spec, make_sample
from samples.truth import Truth

SPECS = {
    "5.10-cloud, nokaslr": Spec("5.10-cloud", seed=11, kaslr=False),
    "6.1-cloud, 2 CPUs": Spec("6.1-cloud", seed=12, cpus=2),
    "6.1-amd64, light": Spec("6.1-amd64", seed=16, light=True, append="pti=on"),
    "6.1-rt, light, 2 CPUs": Spec("6.1-rt", seed=16, light=True, cpus=2),
    "6.12-cloud": Spec("6.12-cloud", seed=13),
    "6.12-amd64, light, 4 CPUs": Spec("6.12-amd64", seed=16, light=True, cpus=4, ram=512 << 20),
    "7.x-cloud, 2 CPUs": Spec("7-cloud", seed=24, cpus=2),
}
WANTED = 0.995

EXPLAINED = (
    (
        r"/proc/(\d+/)?net/(snmp6?|netstat|dev_snmp6/.*|rt6_stats|softnet_stat|sockstat6?|packet|dev)",
        "counters of packets in transit",
    ),
    (r"/sys/class/net/\w+/statistics/\w+", "counters of packets in transit"),
    (r"/proc/(mtrr|driver/rtc|tty/driver/serial(_8250)?|interrupts|softirqs)", "hardware"),
    (r"/proc/sys/kernel/.*apparmor.*", "the security module asks for the reader's own label"),
    (r"/sys/devices/system/clocksource/.*", "depends on the running CPU's tick"),
    (
        r"/proc/\d+/(task/\d+/)?(sched|stat|schedstat)",
        "clock-delta is measured while it is read; time of the running tasks",
    ),
    (r"/proc/\d+/(task/\d+/)?(stack|wchan)", "a thread that ran between the reading and the capture"),
    (r"/sys/fs/cgroup/.*memory\.stat", "counters of memory that are flushed when they are read"),
)
"""Files that differ for a known cause."""


class Comparison(NamedTuple):
    """`files` did not change before the capture, as two readings show, and `moved` files did. Of `files`, how
    many are `equal` byte for byte; the others as `(path, known cause or None)`."""

    files: int
    moved: int
    equal: int
    different: list[tuple[str, str | None]]

    @property
    def share(self) -> float:
        """Of the files that could be equal, those that are."""
        return self.equal / self.files if self.files else 0.0

    @property
    def unexplained(self) -> list[str]:
        """Those that differ for no known cause."""
        return [path for path, cause in self.different if cause is None]


def compare(truth: Truth, session: Session) -> Comparison:
    """Read every file that the guest itself could read, but for those of processes that have ended since."""
    alive = set(truth.processes)
    readable = [path for path, reading in truth.late.items() if not reading.errno and _is_there(path, alive)]
    still = [path for path in readable if not truth.moved(path)]
    different: list[tuple[str, str | None]] = []
    for path in still:
        try:
            same = session.files.read(path) == truth.file(path)
        except (CallRolledBack, OSError):
            same = False
        if not same:
            different.append((path, _known_cause(path)))
    return Comparison(len(still), len(readable) - len(still), len(still) - len(different), different)


def _is_there(path: str, alive: Container[int]) -> bool:
    """Whether a file is not of a process, or of one that is alive."""
    process = re.match(r"/proc/(\d+)/", path)
    return process is None or int(process[1]) in alive


def _known_cause(path: str) -> str | None:
    return next((cause for pattern, cause in EXPLAINED if re.fullmatch(pattern, path)), None)


def groups(comparison: Comparison) -> Iterator[tuple[str, int, str]]:
    """`(paths with N for numbers, how many, cause)` of what differs, the most first."""
    counts = Counter(
        (re.sub(r"\d+", "N", path), cause or "not known") for path, cause in comparison.different
    )
    for (pattern, cause), count in counts.most_common():
        yield pattern, count, cause


def main() -> None:
    """Make the images, compare, write the tables."""
    rows, details = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for name, spec in SPECS.items():
            sample = make_sample(spec)
            for package in dict.fromkeys((sample.kernel_package, modules_package(sample.kernel_package))):
                enroll(store, package)
            start = time.perf_counter()
            with open_session(sample.raw, store.root) as session:
                found = compare(sample.truth, session)
            seconds = time.perf_counter() - start
            rows.append(
                (
                    name,
                    f"{found.files + found.moved:,}",
                    f"{found.moved:,}",
                    f"{found.files:,}",
                    f"{found.equal:,}",
                    f"{100 * found.share:.2f} %",
                    str(len(found.unexplained)),
                    f"{seconds:.0f} s",
                )
            )
            details += [
                (f"{name}: `{pattern}`", str(count), cause) for pattern, count, cause in groups(found)
            ]
    header = (
        "image",
        "files",
        "changed before the capture",
        "could be equal",
        "equal",
        "share",
        "for no known cause",
        "read in",
    )
    lines = results.circumstances(
        "Every file of /proc, /proc/PID, /proc/net and a list under /sys, read through the bridge and by the",
        "guest itself; one that differed between two readings by the guest could not be equal. "
        f"Wanted: {100 * WANTED:.1f} %.",
    )
    lines += [
        *results.table(header, rows),
        "What differs:",
        "",
        *results.table(("files", "how many", "why"), details),
    ]
    results.write("Fidelity", lines)


if __name__ == "__main__":
    main()
