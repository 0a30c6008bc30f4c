"""A first look at memory images, with pandas: what runs, what listens, and what deserves a second look.

    python examples/triage.py [--store DIR] dump.raw [more.lime ...]

The kernels of the images must be trusted: `hb trust add PACKAGE`.
"""

from __future__ import annotations

import argparse
import sys

import pandas

import hybridbridge_vol
import hybridbridge_vol.api.snapshot
from hybridbridge_vol.errors import HybridBridgeError, error_text
from hybridbridge_vol.toolkit.printable import printable

UNUSUAL_PATHS = ("/tmp/", "/dev/shm/", "/var/tmp/", "/memfd:")
"""Directories in which programs are seldom installed."""


def show(frame: pandas.DataFrame, width: int = 60) -> None:
    """Print a table. Its names come from the guest and may hold control characters."""
    safe = frame.map(lambda value: printable(value) if isinstance(value, str) else value)
    print(safe.to_string(index=False, max_colwidth=width))


def oddities(snapshot: hybridbridge_vol.api.snapshot.Snapshot) -> pandas.DataFrame:
    """Processes whose program was deleted or lies in an unusual directory, processes that look like kernel
    threads but are not, and what one of the kernel's views shows and another does not."""
    found: list[tuple[str | None, str | None, str]] = [
        (str(row.pid), row.command, f"runs {row.name}")
        for row in snapshot.lsof()
        if row.fd == "txt" and row.name and ("(deleted)" in row.name or row.name.startswith(UNUSUAL_PATHS))
    ]
    found += [
        (str(row.pid), row.comm, f"looks like a kernel thread: {row.cmd}")
        for row in snapshot.ps()
        if row.cmd and row.cmd.startswith("[") and row.vsz
    ]
    found += [(row.what, row.name, f"seen in {row.seen}, not in {row.missing}") for row in snapshot.hidden()]
    return pandas.DataFrame(sorted(set(found)), columns=["what", "name", "why"])


def triage(path: str, store: str | None) -> None:
    """Print the essentials of one image."""
    with hybridbridge_vol.open(path, store) as snapshot:
        facts = snapshot.facts
        up = pandas.Timedelta(seconds=round(facts.uptime or 0))
        print(printable(f"{path}: {facts.hostname}, {facts.package}, {facts.cpus} CPUs, up {up}"))

        processes = snapshot.ps().to_pandas()
        busiest = processes.sort_values("TIME", ascending=False).head(5)
        print(f"\n{len(processes)} processes of {processes['UID'].nunique()} users. The busiest:")
        show(busiest[["PID", "UID", "START", "TIME", "RSS", "CMD"]])

        sockets = snapshot.netstat(tcp=True, udp=True, listening=True, program=True).to_pandas()
        print(f"\n{len(sockets)} listening sockets:")
        show(sockets[["PROTO", "LOCAL", "PID", "PROGRAM"]].drop_duplicates())

        odd = oddities(snapshot)
        print(f"\n{len(odd)} things deserve a second look:")
        show(odd, width=80)


def main() -> int:
    """Look at the images one by one; 1 if one could not be opened."""
    parser = argparse.ArgumentParser(description="A first look at memory images.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="memory image")
    parser.add_argument(
        "--store", metavar="DIR", help="directory of trusted kernels (default: ~/.cache/hybridbridge/trust)"
    )
    args = parser.parse_args()
    failed = False
    for path in args.images:
        try:
            triage(path, args.store)
        except (HybridBridgeError, OSError) as error:
            print(printable(error_text(error, path)), file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
