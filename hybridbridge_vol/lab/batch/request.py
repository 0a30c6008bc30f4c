"""What is asked of one image: which tools, in which format, within which limits."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hybridbridge_vol import __version__
from hybridbridge_vol.lab.batch.dataset import Fingerprint, Format

PAPER_TOOLS = (
    "getpid", "gettime", "hostname", "uname", "arp", "uptime", "free", "lsmod", "netstat", "vmstat",
    "iostat", "dmesg", "mpstat", "ps", "pidstat",
)  # fmt: skip
"""The 15 tools of HYBRID-BRIDGE's evaluation (NDSS 2014, table 1)."""

OPTIONS: dict[str, dict[str, object]] = {"netstat": {"all": True, "program": True}}
"""Options beyond the tools' defaults: whoever asks the dataset later wants all sockets, with their owners."""

TOOL_SECONDS = 120.0
MEMORY = 2 << 30


@dataclass(frozen=True)
class Request:
    """One image and what is to be done with it. Paths are absolute.

    `staging`: a directory for its tables, created if need be. `store`: the trust store's root (None: the
    user's own). `kernel`: the kernel's entry there, if it is known. `kernel_at`: the physical address of one
    of several kernels in the image (None: the one that ran). `tool_seconds`: wall time of each tool,
    and of opening the image; `image_seconds`: of all together. `memory`: bytes of private memory that a child
    may use to examine it.
    """

    id: str
    path: str
    staging: str
    tools: tuple[str, ...] = PAPER_TOOLS
    format: Format = "parquet"
    store: str | None = None
    kernel: str | None = None
    sha256: bool = False
    kernel_at: int | None = None
    tool_seconds: float = TOOL_SECONDS
    image_seconds: float | None = None
    memory: int = MEMORY
    programs: tuple[tuple[str, str], ...] = ()
    """Native programs: the name of each among `tools`, and its command."""


def fingerprint(request: Request) -> Fingerprint:
    """The fingerprint of a request, with the file as it is now (size and time are 0 if there is none)."""
    size = mtime_ns = 0
    try:
        info = os.stat(request.path)
        size, mtime_ns = info.st_size, info.st_mtime_ns
    except OSError:
        pass
    commands = dict(request.programs)
    asked = tuple(f"{name}={commands[name]}" if name in commands else name for name in request.tools)
    return Fingerprint(
        size, mtime_ns, asked, request.format, request.sha256, __version__, request.tool_seconds,
        request.kernel_at,
    )  # fmt: skip
