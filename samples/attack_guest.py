"""A guest whose kernel is attacked by a rootkit of our own (guest/rootkit.c), and the same one left alone."""

from __future__ import annotations

import stat
from pathlib import Path

from samples.compiler import sources
from samples.guest_files import GUEST, OBSERVER, Entry, Recipe
from samples.initramfs import Archive
from samples.kernel_module import build

ROOTKIT = GUEST / "rootkit.c"
_GHOST = (
    "syscall", "inline", "ftrace", "kprobe", "vfs", "directory", "tcp", "udp", "sniffer", "tty", "timer",
    "security", "tracepoint", "uprobe", "work", "delayed", "interrupt", "kthread", "format", "device",
    "sysfs",
    "lines", "name", "mapping", "class", "taskwork", "endpoint", "tunnel", "ethtool", "family", "receiver",
    "options", "esp", "congestion", "queue", "namespaces", "tasklet", "dumper", "input", "cipher", "keytype",
    "debugfs", "driver", "clock", "vmalloc", "orphan", "page",
)  # fmt: skip
_SPY = (
    "netfilter", "keyboard", "process", "socket", "thread", "credentials", "root", "modprobe", "core",
    "poweroff", "setting", "power", "module", "wiped",
)  # fmt: skip
MODULES = {"ghost": _GHOST, "wraith": ("reboot",), "shade": ("unnamed",), "spy": _SPY}
"""The rootkit, several times, and what each does, in this order. `spy` hides `ghost`, wipes `wraith`, and
stays listed, as `shade` does."""
SETS = ("all", "none")
_PLAN = (
    "command uname -a",
    "command ps -eo pid,ppid,uid,comm",
    "command dmesg",
    "last /run/victims",
    "last /proc/modules",
    "last /proc/net/tcp",
    "settle comm",
)


def recipe(attacks: str) -> Recipe:
    """The files of a guest that suffers one of `SETS`, but for the rootkit itself."""
    entries = [
        Entry("init", stat.S_IFREG | 0o755, (GUEST / "attack_init.sh").read_bytes()),
        Entry("srv/plan", stat.S_IFREG | 0o644, "".join(f"{line}\n" for line in _PLAN).encode()),
        Entry("etc/passwd", stat.S_IFREG | 0o644, b"root:x:0:0::/:/bin/sh\n"),
        *(Entry(name, stat.S_IFDIR | 0o755) for name in ("proc", "sys", "dev", "run")),
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
    ]
    if attacks == "all":
        orders = "".join(f"{name} {','.join(words)}\n" for name, words in MODULES.items())
        entries.append(Entry("srv/attacks", stat.S_IFREG | 0o644, orders.encode()))
        entries.append(Entry("srv/rootkit.c", stat.S_IFREG | 0o644, _source().encode()))
    return Recipe(
        entries=tuple(entries),
        programs=((OBSERVER, GUEST / "observer.c"), ("usr/libexec/victim", GUEST / "victim.c")),
        packages=("dash", "coreutils", "mount", "kmod", "procps", "util-linux", "libc6"),
        wanted=("usr/bin/(dash|sh|cat|sleep|uname|mount|umount|kmod|ps|dmesg)", "usr/sbin/insmod"),
        modules=("dummy",),
    )


def _source() -> str:
    """The rootkit's C text, with that of the files beside it in the places of their names."""
    main, *included = sources(ROOTKIT)
    text = main.read_text()
    for path in included:
        text = text.replace(f'#include "{path.name}"\n', path.read_text())
    return text


def rootkit(package: Path) -> bytes:
    """A further part of the file system: the rootkit's modules for the kernel in a package."""
    archive = Archive()
    for name in MODULES:
        archive.add(f"srv/{name}.ko", stat.S_IFREG | 0o644, build(package, _source(), name))
    return archive.finished()
