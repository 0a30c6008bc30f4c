"""Debian's own statistics tools, run on a /proc and a /sys that are given to them.

The tools run in a mount namespace of their own, in which folders are mounted over /proc and /sys.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hybridbridge_vol.kernel_file.packages import members
from samples.apt import download, own_suite

_PACKAGES = ("sysstat", "procps", "libproc2-0")
_WANTED = (
    "usr/bin/iostat",
    "usr/bin/mpstat",
    "usr/bin/pidstat",
    "usr/bin/free",
    "usr/bin/vmstat",
    "usr/bin/uptime",
)
_LIBRARIES = ("usr/lib/*/libproc2.so*", "lib/*/libproc2.so*")
_NAMESPACES = (
    ("unshare", "--mount", "--propagation", "private"),
    ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"),
)
_SECONDS = 300.0
_INSIDE = """\
import ctypes, json, os, subprocess, sys

MS_BIND, MNT_DETACH = 4096, 2
libc = ctypes.CDLL(None, use_errno=True)

def mount(source, target):
    if libc.mount(source.encode(), target, None, MS_BIND, None):
        raise OSError(ctypes.get_errno(), "mount", source)

printed = []
for case in json.load(sys.stdin):
    mount(case["folder"] + "/proc", b"/proc")
    mount(case["folder"] + "/sys", b"/sys")
    # what closes all other descriptors asks /proc which there are
    printed.append({line: subprocess.run(line.split(), capture_output=True, text=True, close_fds=False).stdout
                    for line in case["commands"]})
    libc.umount2(b"/sys", MNT_DETACH)
    libc.umount2(b"/proc", MNT_DETACH)
json.dump(printed, sys.stdout)
"""


def why_not() -> str:
    """Why the tools cannot be run here; empty if they can."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    return "" if _namespace() else "no mount namespace can be made here: neither as root nor as another user"


def _namespace() -> Sequence[str] | None:
    """The command that runs another one in a mount namespace of its own."""
    for command in _NAMESPACES:
        probe = [*command, "mount", "--bind", "/usr", "/proc"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return command
    return None


def unpack(folder: Path) -> None:
    """Put the tools of this machine's Debian, and their library, into a folder."""
    for package in download(_PACKAGES, (own_suite(),)):
        for member in members(package, *_WANTED, *_LIBRARIES):
            path = folder / Path(member.name).name
            if member.link:
                path.symlink_to(Path(member.link).name)
            else:
                path.write_bytes(member.data)
                path.chmod(member.mode & 0o777)


def run_on(tools: Path, cases: Sequence[tuple[Path, Sequence[str]]]) -> list[Mapping[str, str]]:
    """What each command line prints, for each `(folder, command lines)`: the folder's `proc` and `sys` are
    the command's /proc and /sys. `tools` is where the tools are."""
    namespace = _namespace()
    assert namespace is not None
    asked = [{"folder": str(folder), "commands": list(commands)} for folder, commands in cases]
    environment = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "LD_LIBRARY_PATH": str(tools),
        "LC_ALL": "C",
        "S_COLORS": "never",
    }
    done = subprocess.run(
        [*namespace, sys.executable, "-c", _INSIDE],
        input=json.dumps(asked), env=environment,
        capture_output=True, text=True, check=True, timeout=_SECONDS,
    )  # fmt: skip
    printed: list[Mapping[str, str]] = json.loads(done.stdout)
    return printed
