"""What a native command printed on an image, against what the same command printed in the guest: both
reduced to what stood still between the command and the capture."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from samples.plan import IN_CONTAINER
from samples.truth import Truth, parse_copy

Reduce = Callable[[str], list[str]]
"""What is left of an output: lines whose words are separated by one blank."""

EXACT = (
    "uname -a", "hostname", "lsmod", "netstat -rn", "arp -an", "arp -n", "arp -e", "arp -a", "ip addr",
    "ip neigh", "mount", "mount -l", "netstat -xap", "ip route show table all", "ip -6 route", "ip -6 neigh",
    "ip rule", "ip -6 rule", "ip maddr", "route -n", "route -6 -n", "ipcs -a", "df -a", "vmstat -d",
    "uptime -s", "netstat -g", "pmap -x 1", "netstat -tulpan",
)  # fmt: skip
"""Commands whose whole output must be the same."""
_AT_WORK = re.compile(
    r"^ps\b|kworker|observer|rcu_|ksoftirqd|jbd2|kcompactd|kthreadd|/init|migration|in-contai"
)
"""Processes that ran between the command and the capture."""


def lines(text: str) -> list[str]:
    """All lines."""
    return [" ".join(line.split()) for line in text.splitlines()]


def fields(*numbers: int, split: int = -1, at_work: bool = True) -> Reduce:
    """These columns, counted from 0, of the processes that did not run; a line has `split` of them before its
    last one."""

    def reduce(text: str) -> list[str]:
        rows = [line.split(None, split) for line in text.splitlines()]
        found = [
            " ".join(row[number].strip() for number in numbers if number < len(row))
            for row in rows
            if len(row) > max(0, split) and not (at_work and _AT_WORK.search(row[-1]))
        ]
        return sorted(found)

    return reduce


def sockets(text: str) -> list[str]:
    """State, both addresses and owners of the sockets that ss shows; those that close went on closing."""
    found = []
    for line in text.splitlines():
        row = re.match(r"\S+\s+([A-Z0-9-]+)\s+\d+\s+\d+\s+(\S+)\s+(\S+)\s*(users:\S+)?", line)
        if row is not None:
            found.append(" ".join(part or "" for part in row.groups()))
    # without the modules for sock_diag, ss reads /proc, and writes any address in one form
    return sorted(line.replace("[::]", "*").replace("0.0.0.0", "*") for line in found)


def unix_sockets(text: str) -> list[str]:
    """Kind, name, inode and owners of the unix sockets that ss shows."""
    rows = (line.split() for line in text.splitlines() if line.startswith("u_"))
    return sorted(" ".join((row[0], row[4], row[5], row[-1])) for row in rows)


def open_files(text: str) -> list[str]:
    """What lsof shows of processes that did not run."""
    rows = (" ".join(line.split()) for line in text.splitlines())
    return sorted(line for line in rows if not re.match(r"(observer|lsof|sh|init|in-contai|COMMAND)\b", line))


def with_sessions(text: str) -> list[str]:
    """What stood still of processes with a session of their own, and of kernel threads."""
    rows = (line.split(None, 18) for line in text.splitlines()[1:])
    kept = (row for row in rows if row[3] != "0" or row[6] == "0")
    return sorted(" ".join(row[:6] + row[9:]) for row in kept)


def first_words(count: int, *beginnings: str) -> Reduce:
    """The first words of the lines that begin so."""

    def reduce(text: str) -> list[str]:
        return [" ".join(line.split()[:count]) for line in lines(text) if line.startswith(beginnings)]

    return reduce


def log(text: str) -> list[str]:
    """The beginning of the log: more was written until the capture."""
    return lines(text)[:300]


_PS = "ps -eww -o pid,ppid,pgid,sid,tty,stat,uid,user,ni,pri,nlwp,comm,args"
_THREADS = (
    "ps -eLww -o pid,tid,cls,rtprio,psr,f,s,sz,ruser,euser,suid,fsuid,rgid,egid,pending,blocked,ignored,"
    "caught,ucmd"
)
_NAMESPACES = (
    "ps -eww -o pid,tpgid,pgrp,sess,nlwp,ppid,rss,vsz,pmem,tname,uid,gid,group,rgroup,label,netns,pidns,"
    "mntns,cgroup:200"
)
REDUCED: dict[str, Reduce] = {
    "ps -ef": fields(0, 1, 2, 5, 7, split=7),
    "ps aux": fields(0, 1, 3, 4, 5, 6, 7, 10, split=10),
    "ps -eLf": fields(0, 1, 2, 3, 5, 7, 9, split=9),
    "ps -ejH": fields(0, 1, 2, 3, 5, split=5),
    _PS: fields(*range(13), split=12),
    _THREADS: fields(0, 1, 2, 3, 5, *range(7, 19), split=18),
    _NAMESPACES: with_sessions,
    "ps -eLfww": fields(0, 1, 2, 3, 5, 7, 9, split=9),
    "lsof -n -P -w": open_files,
    "ss -xanp": unix_sockets,
    "ss -tuanpe": sockets,
    "ss -tuwanoipem": sockets,
    "dmesg": log,
    "dmesg -x": log,
    "dmesg --raw": log,
    "dmesg -T": log,
    "free": first_words(2, "Mem:", "Swap:"),
    "free -b": first_words(2, "Mem:", "Swap:"),
    "vmstat -s": lambda text: [line for line in lines(text) if "total" in line],
    "netstat -i": first_words(2, "br0", "dummy0", "lo", "veth", "eth"),
    "iostat": first_words(1, "Linux", "loop", "zram", "sr", "fd"),
    "mpstat": first_words(4, "Linux"),
    "mpstat -P ALL": first_words(4, "Linux"),
    "pidstat": first_words(4, "Linux"),
    "lsns": fields(0, 1, 3, 4, 5, split=5, at_work=False),
}
"""Commands some of whose output moves, and what does not."""


def differences(command: str, ours: str, guests: str, reduce: Reduce | None = None) -> list[str]:
    """The lines that only one of them has, once both are reduced: as `REDUCED` says, unless given."""
    reduce = reduce or REDUCED.get(command, lines)
    seen, said = reduce(ours), reduce(guests)
    return [f"guest: {line}" for line in _without(said, seen)] + [
        f"image: {line}" for line in _without(seen, said)
    ]


def container_of(truth: Truth) -> int:
    """The first process of the workload's container (samples/workload.py)."""
    first = [pid for pid in truth.processes if truth.late[f"/proc/{pid}/cmdline"].data == b"sleep\x0060000\0"]
    return first[0]


def in_container(truth: Truth) -> dict[str, str]:
    """What programs printed in the workload's container, by command line."""
    return parse_copy(truth.command(IN_CONTAINER).encode("utf-8", "surrogateescape"))[1]


def _without_shares(text: str) -> list[str]:
    """pmap -X without its sums, and without the columns that depend on how many processes share a page."""
    first, header, *rows = lines(text)
    kept = [number for number, name in enumerate(header.split()) if not name.startswith("Pss")]
    found = [row.split() for row in rows if row[:1] in "0123456789abcdef" and not row.endswith("KB")]
    return [first, *(" ".join(row[number] for number in kept if number < len(row)) for row in found)]


def _lines_without(pattern: str) -> Reduce:
    moving = re.compile(pattern)
    return lambda text: [line for line in lines(text) if not moving.search(line)]


_IN_CONTAINER: dict[str, Reduce] = {
    "pgrep -l .": _lines_without("in-contai"),
    "pmap -X 1": _without_shares,
    # tools that look for a name server, and find none, went on
    "netstat -s": lambda text: [line for line in lines(text) if re.search("connection|TCP", line)],
    "cat /proc/sys/kernel/hostname /proc/sys/kernel/ns_last_pid /proc/sysvipc/shm": _lines_without(r"^\d+$"),
    # ours is the network namespace's, as engines mount it: the sample's has the first one's
    "find /proc/sys/net /sys/class/net /dev/shm /run -printf %p=%y\\n": _lines_without("^/sys/class/net/"),
}
"""What moves in a container, or is known to differ there."""


def container_differences(command: str, ours: str, guests: str) -> list[str]:
    """`differences` of what was printed in a container."""
    return differences(command, ours, guests, _IN_CONTAINER.get(command))


def _without(these: Sequence[str], others: Sequence[str]) -> list[str]:
    left = list(others)
    found = []
    for line in these:
        if line in left:
            left.remove(line)
        else:
            found.append(line)
    return found
