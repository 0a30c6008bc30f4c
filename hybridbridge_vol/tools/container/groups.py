"""Which container a process is in, by the path of its control group.

The names are those of the engines: docker and podman with systemd's driver (`docker-ID.scope`,
`libpod-ID.scope`) and with cgroupfs (`/docker/ID`), containerd's and CRI-O's plugins for Kubernetes, LXC 3
and later, and systemd-nspawn with machined (systemd's CONTROL_GROUP_INTERFACE).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_ID = r"(?P<id>[0-9a-f]{64})"
_NAME = r"(?P<id>[^/]+)"
_PATTERNS = tuple(
    (engine, re.compile(pattern))
    for engine, pattern in (
        ("docker", rf"/docker-{_ID}\.scope"),
        ("docker", rf"/docker/{_ID}(?:/|$)"),
        ("podman", rf"/libpod-{_ID}(?:\.scope|/|$)"),
        ("containerd", rf"/(?:cri-containerd|nerdctl)-{_ID}\.scope"),
        ("containerd", rf":cri-containerd:{_ID}"),
        ("cri-o", rf"/crio-{_ID}(?:\.scope|/|$)"),
        ("kubernetes", rf"/kubepods[^/]*/(?:[^/]+/)*{_ID}(?:/|$)"),
        ("lxc", rf"/lxc\.payload[./]{_NAME}"),
        ("lxc", r"^/lxc/(?P<id>[^/]+)"),
        ("systemd-nspawn", r"/systemd-nspawn@(?P<id>[^/]+)\.service"),
        ("machine", r"/machine\.slice/machine-(?P<id>[^/]+)\.scope"),
        ("containerd", rf"^/(?:default|k8s\.io|moby)/{_ID}(?:/|$)"),
    )
)
"""The first that matches counts. `kubernetes`: the engine does not show in the path."""
_POD = re.compile(
    r"[/-]pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})"
)
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


class Membership(NamedTuple):
    """A container: its engine, id or name, pod (the uid that Kubernetes gave it, or empty), and control
    group."""

    engine: str
    id: str
    pod: str
    group: str


def membership(paths: Iterable[str]) -> Membership | None:
    """The container of a process with these control groups; None if they are of none."""
    for path in paths:
        for engine, pattern in _PATTERNS:
            match = pattern.search(path)
            if match is not None:
                pod = _POD.search(path)
                name = match["id"]
                if engine in ("systemd-nspawn", "machine", "lxc"):
                    name = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
                return Membership(
                    engine, name, pod[1].replace("_", "-") if pod else "", path[: match.end()].rstrip("/")
                )
    return None


def parse_groups(data: bytes) -> list[str]:
    """The paths of /proc/PID/cgroup (cgroups(7)): of version 2 first, then of each hierarchy; no path
    twice."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    fields = [line.split(":", 2) for line in lines]
    paths = [field[2].removesuffix(" (deleted)") for field in fields if len(field) == 3]
    return list(dict.fromkeys(sorted(paths, key=lambda path: path == "/")))
