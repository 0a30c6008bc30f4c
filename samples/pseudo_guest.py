"""A guest with pseudo file systems of every kind: some are mounted, of others only what the kernel keeps. And
rules of audit."""

from __future__ import annotations

import stat

from samples.guest_files import GUEST, OBSERVER, Entry, Recipe

_MODULES = ("binfmt_misc", "configfs", "null_blk")
MOUNTED = (
    "/sys/kernel/tracing", "/sys/fs/bpf", "/sys/fs/pstore", "/proc/sys/fs/binfmt_misc", "/sys/kernel/config",
    "/dev/mqueue", "/sys/fs/cgroup",
)  # fmt: skip
"""Places where the guest's first process has something mounted at the capture."""
UNMOUNTED = ("/sys/kernel/debug", "/sys/kernel/security")
"""Places of which it was unmounted again, after the observer had read it: only the second process has it
mounted (guest/pseudo_init.sh)."""
_SKIPPED = (
    "/sys/kernel/debug/tracing",  # tracefs, once more
    "/sys/kernel/tracing/events",  # thousands; `_FILES` has some
    "/sys/kernel/debug/dynamic_debug",
    "/sys/kernel/debug/kernel_page_tables",
)
_SKIPPED_NAMES = (
    "trace_pipe", "trace_pipe_raw", "snapshot_raw",  # wait for events, and take them away
    "free_buffer",  # shrinks the buffer when it is closed
    "available_filter_functions", "available_filter_functions_addrs", "touched_functions",
)  # fmt: skip
FILES = tuple(
    f"/sys/kernel/tracing/events/{name}"
    for name in (
        "spy/name/format", "spy/name/enable", "spy/name/filter", "spy/enable", "sched/sched_switch/format",
        "sched/sched_switch/filter", "sched/sched_switch/id", "sched/sched_switch/trigger", "header_page",
    )
)  # fmt: skip
JAIL = "/srv/jail"
"""The root directory of the process `jailed`."""
JAILED = {"etc/passwd": b"root:x:0:0::/:/bin/sh\njailor:x:1000:0::/:/bin/sh\n", "note": b"inside\n"}
"""Files in it."""
_PLAN = (
    "command uname -a",
    "command auditctl -l",
    "command auditctl -s",
    *(f"skip {path}" for path in _SKIPPED),
    *(f"skip-name {name}" for name in _SKIPPED_NAMES),
    *(f"{reading} {path}" for reading in ("early", "late") for path in (*UNMOUNTED, *MOUNTED)),
    *(f"last {path}" for path in FILES),
    *(f"run umount {path}" for path in UNMOUNTED),
    "last /proc/1/mountinfo",
    "settle comm",
)


MANY_RULES = 300
"""More rules of audit than a socket takes by default."""


def _audit_rules() -> bytes:
    more = "".join(f"-a never,exit -F pid={number}\n" for number in range(10000, 10000 + MANY_RULES))
    return (GUEST / "audit.rules").read_bytes() + more.encode()


def recipe() -> Recipe:
    """The files of the guest."""
    return Recipe(
        entries=(
            Entry("init", stat.S_IFREG | 0o755, (GUEST / "pseudo_init.sh").read_bytes()),
            Entry("srv/plan", stat.S_IFREG | 0o644, "".join(f"{line}\n" for line in _PLAN).encode()),
            Entry("srv/audit.rules", stat.S_IFREG | 0o600, _audit_rules()),
            Entry("etc/passwd", stat.S_IFREG | 0o644, b"root:x:0:0::/:/bin/sh\n"),
            *(Entry(f"{JAIL[1:]}/{name}", stat.S_IFREG | 0o644, text) for name, text in JAILED.items()),
            *(Entry(name, stat.S_IFDIR | 0o755) for name in ("proc", "sys", "dev", "run")),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ),
        programs=((OBSERVER, GUEST / "observer.c"), (f"{JAIL[1:]}/bin/jailed", GUEST / "actor.c")),
        packages=("dash", "coreutils", "mount", "util-linux", "hostname", "kmod", "libc6", "auditd"),
        wanted=(
            "usr/bin/(dash|sh|cat|sleep|uname|mount|umount|mkdir|chown|unshare|hostname|kmod)",
            "(usr/)?sbin/(insmod|chroot|auditctl)",
        ),
        modules=_MODULES,
    )
