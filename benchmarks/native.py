"""What a native program on an image costs, against our own tool of that name. `make bench` runs this.

Seconds are of processor time, the program's own included.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure, results
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.native.capture import capture
from hybridbridge_vol.native.run import Options
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import Spec, make_sample

SPEC = Spec("6.1-cloud", seed=1)
RUNS = 9
COMMANDS = 20
"""Of the script whose commands are timed."""


def main() -> None:
    """Make the image, measure, write the table."""
    sample = make_sample(SPEC)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        enroll(store, sample.kernel_package)
        hb = (sys.executable, "-m", "hybridbridge_vol")
        image = (str(sample.dump), "--store", str(store.root))
        timed = measure.commands(
            {
                "run": (*hb, "run", *image, "ps"),
                "exec": (*hb, "exec", *image, "--", "ps", "aux"),
                "emulated": (*hb, "exec", *image, "--user-mode", "emulated", "--", "ps", "aux"),
                "ls": (*hb, "exec", *image, "--", "ls", "/"),
            },
            RUNS,
        )
        with open_session(sample.dump, store.root) as session:
            per_call, calls = call_cost(session)
            command = command_cost(session)
    ours, theirs = timed["run"].cpu, timed["exec"].cpu
    text = results.circumstances(
        f"Kernel {sample.kernel_package.name}; Debian's own `ps` and `ls`.",
        f"Seconds of processor time, medians of {RUNS}, with a memo; the machine is shared and noisy.",
    )
    text += results.table(
        ("what", "measured", "wanted"),
        (
            ("`hb run ps`", f"{ours:.2f} s", ""),
            ("`hb exec -- ps aux`", f"{theirs:.2f} s", ""),
            ("the same against `hb run ps`", f"{theirs / ours:.2f} times", "2 times"),
            ("`hb exec --user-mode emulated -- ps aux`", f"{timed['emulated'].cpu:.2f} s", ""),
            ("`hb exec -- ls /`", f"{timed['ls'].cpu:.2f} s", ""),
            (
                f"one of the {calls:,} intercepted calls of a second `ps aux` in the same shell",
                f"{per_call * 1e6:.0f} us",
                "100 us",
            ),
            ("a further command in the same shell", f"{command * 1e3:.0f} ms", "50 ms"),
        ),
    )
    results.write("Native programs", text)


def call_cost(session: Session) -> tuple[float, int]:
    """Seconds for each system call that the supervisor answers to a second `ps aux` in the same shell, and
    how many calls that are: what costs is the call, as the image has answered already."""
    for _ in range(RUNS):  # the emulator translates what it runs often
        capture(session, ("ps", "aux"))
    (once, calls_once), (twice, calls_twice) = (
        supervised(session, ("sh", "-c", "ps aux;" * count + "true")) for count in (1, 2)
    )
    calls = calls_twice - calls_once
    return (twice - once) / calls, calls


def supervised(session: Session, arguments: Sequence[str]) -> tuple[float, int]:
    """Processor time of this process, which answers, for one run of a program (the median), and how often it
    answers."""
    times, calls = [], Counter[int]()

    def count(_call: object, _answer: object) -> None:
        calls[0] += 1

    for _ in range(RUNS):
        calls.clear()
        begun = time.process_time()
        capture(session, arguments, options=Options(trace=count))
        times.append(time.process_time() - begun)
    return statistics.median(times), calls[0]


def command_cost(session: Session) -> float:
    """Seconds that pass for one more command of a shell's, `cat /proc/uptime`."""
    one, many = (
        measure.seconds(lambda: capture(session, ("sh", "-c", "cat /proc/uptime;" * count)), RUNS)  # noqa: B023
        for count in (1, 1 + COMMANDS)
    )
    return (many - one) / COMMANDS


if __name__ == "__main__":
    main()
