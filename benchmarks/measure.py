"""Timing whole commands and calls, and describing the machine they ran on."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """Medians of several runs: wall-clock seconds, seconds of CPU (user and system), peak memory in MiB; and
    the spread of the wall-clock time."""

    wall: float
    cpu: float
    peak_mib: float
    fastest: float
    slowest: float


def commands(lines: dict[str, Sequence[str]], runs: int = 7, warm_ups: int = 1) -> dict[str, Measured]:
    """Run commands in turn, A B A B ..., after some warm-ups each; RuntimeError if one fails."""
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in lines}
    for turn in range(1 - warm_ups, runs + 1):
        for name, line in lines.items():
            sample = once(line)
            if turn > 0:
                results[name].append(sample)
    return {name: _summary(samples) for name, samples in results.items()}


def once(line: Sequence[str]) -> tuple[float, float, float]:
    """Run a command: wall-clock seconds, CPU seconds, peak MiB. RuntimeError if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(line)} failed: {errors.decode(errors='replace').strip()[-300:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _summary(samples: Sequence[tuple[float, float, float]]) -> Measured:
    walls = [wall for wall, _cpu, _peak in samples]
    return Measured(
        statistics.median(walls),
        statistics.median(cpu for _wall, cpu, _peak in samples),
        max(peak for _wall, _cpu, peak in samples),
        min(walls),
        max(walls),
    )


def seconds(call: Callable[[], object], runs: int = 7) -> float:
    """Median seconds of a call, after one warm-up."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def processor_seconds() -> float:
    """Processor time of this process so far, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def machine() -> str:
    """The machine and the versions, in a line each."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    packages = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("volatility3", "unicorn", "hybridbridge-vol")
    )
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, {python}, {packages}"
