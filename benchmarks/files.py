"""What the guest's own files cost: listing 10,000 cached ones, recovering contents, `find` over `hb mount`.
`make bench` runs this.

Seconds are of processor time, of this process and, for the mount, of the one that serves it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import results
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.tools.file_system.unreached import every_file
from hybridbridge_vol.tools.files import TOOL
from hybridbridge_vol.tools.timeline import TOOL as TIMELINE
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.recover.recover import Selection, recover
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import Sample, Spec, make_sample

FILES = 10_000
MANY = Spec("6.1-cloud", seed=35, ram=1 << 30, light=True, disks=True, append=f"many_files={FILES}")
"""A guest with so many files of 4 KiB, and one of 128 MiB, on a tmpfs; and file systems of every kind."""
RUNS = 3
PATIENCE = 600.0
"""Seconds for the mount to appear and to go."""


def main() -> None:
    """Make the image, measure, write the table."""
    sample = make_sample(MANY)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        enroll(store, sample.kernel_package)
        with open_session(sample.dump, store.root) as session:
            listed(session)  # the memo covers it from then on
            session.keep_learned()
            rows, listing = listed(session)
            events = min(processor_time(lambda: timeline(session))[0] for _ in range(RUNS))
            entries = min(processor_time(lambda: sum(1 for _ in every_file(session)))[0] for _ in range(RUNS))
            recovering(session, Path(folder), "/etc/hostname", 0)  # imports what it needs
            large = recovering(session, Path(folder), "/many/large", entries)
            small = recovering(session, Path(folder), "/many/small/*", entries)
        mounted = finding(sample, store, Path(folder) / "mnt")
    text = results.circumstances(
        f"Kernel {sample.kernel_package.name}; an image of 1 GiB: {rows:,} rows of `files`, {FILES:,} of "
        "them of files of 4 KiB on a tmpfs, all cached.",
        "Seconds of processor time on one core, with a memo; the machine is shared and noisy.",
    )
    text += results.table(
        ("what", "measured", "wanted"),
        (
            ("`files`", f"{listing:.1f} s", "10 s"),
            ("`timeline`, of which nearly all events are of files", f"{events:.1f} s", "15 s"),
            ("`hb recover` of one file of 128 MiB, beyond listing", f"{large / 1e6:.0f} MB/s", "100 MB/s"),
            ("`hb recover` of the small files, beyond listing", f"{small / 4096:.0f} files/s", ""),
            ("`find -ls` over `hb mount`, the process that serves it", f"{mounted:.1f} s", ""),
            ("the same against `files`", f"{mounted / listing:.2f} times", "2 times"),
        ),
    )
    results.write("The guest's files", text)


def processor_time(work: Callable[[], int]) -> tuple[float, int]:
    """Seconds, and what the work returns."""
    started = time.process_time()
    answer = work()
    return time.process_time() - started, answer


def listed(session: Session) -> tuple[int, float]:
    """How many rows `files` has, and the seconds that it takes."""
    options = TOOL.defaults()
    seconds, count = processor_time(lambda: sum(1 for _ in TOOL.rows(session, options)))
    return count, seconds


def timeline(session: Session) -> int:
    """How many rows `timeline` has."""
    options = TIMELINE.defaults()
    return sum(1 for _ in TIMELINE.rows(session, options))


def recovering(session: Session, folder: Path, pattern: str, listing: float) -> float:
    """Bytes a second of what matches, without the seconds that listing takes: the best of `RUNS`."""
    selection, found = Selection(patterns=(pattern,)), []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(dir=folder) as out:
            seconds, size = processor_time(partial(_recovered, session, Path(out), selection))
        found.append(size / max(seconds - listing, 1e-3))
    return max(found)


def _recovered(session: Session, out: Path, selection: Selection) -> int:
    return recover(session, out, selection).recovered_bytes


def finding(sample: Sample, store: Store, folder: Path) -> float:
    """Processor time of `hb mount` while `find -ls` walks the tree without /proc and /sys."""
    folder.mkdir()
    line = [sys.executable, "-m", "hybridbridge_vol", "mount", str(sample.dump), str(folder)]
    with subprocess.Popen([*line, "--store", str(store.root)], stdout=subprocess.DEVNULL) as process:
        try:
            _wait(folder, True)
            begun = _processor_seconds(process.pid)
            skipped = ["-path", f"{folder}/proc", "-prune", "-o", "-path", f"{folder}/sys", "-prune", "-o"]
            subprocess.run(["find", folder, *skipped, "-ls"], stdout=subprocess.DEVNULL, check=False)
            return _processor_seconds(process.pid) - begun
        finally:
            process.send_signal(signal.SIGINT)
            _wait(folder, False)


def _wait(folder: Path, mounted: bool) -> None:
    """TimeoutError."""
    end = time.monotonic() + PATIENCE
    while os.path.ismount(folder) != mounted:
        if time.monotonic() > end:
            raise TimeoutError(f"{folder}: neither mounted nor unmounted in time")
        time.sleep(0.1)


def _processor_seconds(pid: int) -> float:
    """utime and stime, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
