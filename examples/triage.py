"""A first look at memory images, with pandas: what runs, what listens, and what deserves a second look.

    python examples/triage.py [--store DIR] dump.raw [more.lime ...]

The kernels of the images must be trusted before: `hb trust add PACKAGE`.
"""

from __future__ import annotations

import argparse
import sys

import pandas

import hybridbridge_vol
import hybridbridge_vol.api.snapshot
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.toolkit.printable import printable
from hybridbridge_vol.toolkit.tool import error_text

FOREIGN_PLACES = ("/tmp/", "/dev/shm/", "/var/tmp/", "/memfd:")
"""Where programs seldom live for good."""


def show(frame: pandas.DataFrame, width: int = 60) -> None:
    """Print it. Names come from the guest and may hold what moves a terminal's cursor."""
    safe = frame.map(lambda value: printable(value) if isinstance(value, str) else value)
    print(safe.to_string(index=False, max_colwidth=width))


def oddities(snapshot: hybridbridge_vol.api.snapshot.Snapshot) -> pandas.DataFrame:
    """Processes whose program is gone or lies in an odd place, and what one view of the kernel shows and
    another hides."""
    found: list[tuple[str | None, str | None, str]] = [
        (str(row.pid), row.command, f"runs {row.name}")
        for row in snapshot.lsof()
        if row.fd == "txt" and row.name and ("(deleted)" in row.name or row.name.startswith(FOREIGN_PLACES))
    ]
    found += [
        (str(row.pid), row.comm, f"poses as a kernel thread: {row.cmd}")
        for row in snapshot.ps()
        if row.cmd and row.cmd.startswith("[") and row.vsz
    ]
    found += [(row.what, row.name, f"seen in {row.seen}, not in {row.missing}") for row in snapshot.hidden()]
    return pandas.DataFrame(sorted(set(found)), columns=["what", "name", "why"])


def triage(path: str, store: str | None) -> None:
    """Print what is worth knowing of one image."""
    with hybridbridge_vol.open(path, store) as snapshot:
        facts = snapshot.facts
        up = pandas.Timedelta(seconds=round(facts.uptime or 0))
        print(printable(f"{path}: {facts.hostname}, {facts.package}, {facts.cpus} CPUs, up {up}"))

        processes = snapshot.ps().to_pandas()
        busiest = processes.sort_values("TIME", ascending=False).head(5)
        print(f"\n{len(processes)} processes of {processes['UID'].nunique()} users. The busiest:")
        show(busiest[["PID", "UID", "START", "TIME", "RSS", "CMD"]])

        sockets = snapshot.netstat(tcp=True, udp=True, listening=True, program=True).to_pandas()
        print(f"\n{len(sockets)} sockets wait for others:")
        show(sockets[["PROTO", "LOCAL", "PID", "PROGRAM"]].drop_duplicates())

        odd = oddities(snapshot)
        print(f"\n{len(odd)} things deserve a second look:")
        show(odd, width=80)


def main() -> int:
    """Images one by one; 1 if one could not be looked at."""
    parser = argparse.ArgumentParser(description="A first look at memory images.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="memory image")
    parser.add_argument(
        "--store", metavar="DIR", help="where trusted kernels are kept (default: the user's cache directory)"
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
