"""A first look at memory images: what runs, what listens, what does not fit.

    python examples/triage.py IMAGE...

Needs pandas beside this program (pip install 'hybridbridge-vol[api]').
"""

from __future__ import annotations

import sys

import pandas

import hybridbridge_vol
from hybridbridge_vol.api import Snapshot
from hybridbridge_vol.errors import HybridBridgeError


def main(images: list[str]) -> int:
    """Print a page for each image; 1 if one could not be read."""
    status = 0
    for image in images:
        try:
            with hybridbridge_vol.open(image) as snapshot:
                page(snapshot)
        except (HybridBridgeError, OSError) as error:
            print(error, file=sys.stderr)
            status = 1
    return status


def page(snapshot: Snapshot) -> None:
    """What is worth a look in one image."""
    processes = pandas.DataFrame(snapshot.ps())
    files = pandas.DataFrame(snapshot.lsof())
    sockets = snapshot.netstat(listening=True, numeric=True, program=True)
    print(f"{snapshot.path}: {snapshot.kernel}, frozen {snapshot.frozen:%Y-%m-%d %H:%M:%S} UTC, {len(processes)} processes")
    show("The last that were started", processes.nlargest(5, "start")[["pid", "uid", "start", "cmd"]])
    programs = files[files.fd == "txt"]
    show("Programs whose file is gone", programs[programs.name.str.contains(r"\(deleted\)|^/memfd:")][["pid", "command", "name"]])
    users = set(programs.pid)
    show("Names of kernel threads, on programs", processes[processes.pid.isin(users) & processes.cmd.str.startswith("[")][["pid", "cmd"]])
    show("Sockets that listen", sockets.to_pandas())


def show(title: str, frame: pandas.DataFrame) -> None:
    """A table, if there is anything in it."""
    if len(frame):
        print(f"\n{title}:\n{frame.to_string(index=False)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
