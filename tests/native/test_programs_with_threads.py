"""Programs that the guest did not have: psutil, a library of Python's, and one written in Go, which makes its
system calls from many threads and without the C library."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from default_run import in_default_run
from generations import GENERATIONS, NEWEST_RICH, Lab
from native_runs import Run

from samples.stale import of_kernel

IMAGE = "6.12"
EACH = in_default_run(GENERATIONS | NEWEST_RICH, IMAGE)
_PSUTIL = """
import json, psutil
print(json.dumps({
    "processes": {p.pid: [p.ppid(), p.num_threads(), p.uids().real] for p in psutil.process_iter()},
    "tcp": sorted([c.laddr.port, c.raddr.port if c.raddr else 0] for c in psutil.net_connections("tcp")),
    "addresses": {
        name: [entry.address for entry in entries if entry.family == psutil.AF_LINK]
        for name, entries in psutil.net_if_addrs().items()
    },
    "memory": psutil.virtual_memory().total,
    "mounts": [[part.mountpoint, part.fstype] for part in psutil.disk_partitions(all=True)],
}))
"""


@pytest.mark.parametrize("image", EACH)
def test_psutil(lab: Lab, run: Run, image: str) -> None:
    truth = lab.sample(image).truth
    done = run(image, f"/usr/bin/python3 -c {shlex.quote(_PSUTIL)}")
    assert (done.status, done.stderr, done.failures) == (0, b"", {})
    seen = json.loads(done.stdout)
    for pid in truth.processes:
        status = truth.file(f"/proc/{pid}/status").decode("latin-1")
        expected = [
            int(value)
            for name in ("PPid", "Threads", "Uid")
            for value in re.findall(rf"^{name}:\t(\d+)", status, re.MULTILINE)
        ]
        assert seen["processes"][str(pid)] == expected
    tables = [truth.file(path).decode() for path in ("/proc/net/tcp", "/proc/net/tcp6")]
    assert seen["tcp"] == sorted([one.local, one.peer] for table in tables for one in of_kernel(table))
    for name in ("lo", "dummy0"):
        assert seen["addresses"][name] == [truth.file(f"/sys/class/net/{name}/address").decode().strip()]
    total = re.search(r"^MemTotal: +(\d+) kB", truth.file("/proc/meminfo").decode(), re.MULTILINE)
    assert total is not None and seen["memory"] == int(total[1]) * 1024
    mounts = [line.split()[1:3] for line in truth.file("/proc/1/mounts").decode().splitlines()]
    assert seen["mounts"] == mounts


@pytest.mark.parametrize("image", EACH)
def test_a_program_written_in_go(run: Run, image: str) -> None:
    done = run(image, "duf -all -json")
    assert (done.status, done.failures) == (0, {})
    seen = {entry["mount_point"]: (entry["total"], entry["free"]) for entry in json.loads(done.stdout)}
    said = run(image, "df -a -B1 --output=target,size,avail").stdout.decode().splitlines()[1:]
    sizes = {target: (int(size), int(free)) for target, size, free in (line.split() for line in said)}
    assert len(seen) > 4
    assert seen == {target: sizes[target] for target in seen}
