"""The extended attribute of sockets, by which lsof names the protocol of one that is in no table."""

from __future__ import annotations

import os
import socket
from collections import defaultdict

from generations import Lab

from hybridbridge_vol.errors import CallRolledBack

NAME = "system.sockprotoname"
_OURS = {
    "tcp": (socket.AF_INET, socket.SOCK_STREAM),
    "tcp6": (socket.AF_INET6, socket.SOCK_STREAM),
    "udp": (socket.AF_INET, socket.SOCK_DGRAM),
    "udp6": (socket.AF_INET6, socket.SOCK_DGRAM),
}


def _of_this_machine(family: int, kind: int) -> bytes:
    with socket.socket(family, kind) as made:
        return os.getxattr(f"/proc/self/fd/{made.fileno()}", NAME)


def test_a_socket_says_its_protocol_as_on_a_live_machine(lab: Lab, generation: str) -> None:
    files = lab.session(generation).files
    tables = {}
    for table in _OURS:
        for line in files.read(f"/proc/net/{table}").decode().splitlines()[1:]:
            tables[f"socket:[{line.split()[9]}]"] = table
    seen: dict[str, set[bytes]] = defaultdict(set)
    for pid in filter(str.isdecimal, files.listdir("/proc")):
        try:
            numbers = files.listdir(f"/proc/{pid}/fd")
        except (OSError, CallRolledBack):
            continue
        for number in numbers:
            link = f"/proc/{pid}/fd/{number}"
            target = files.readlink(link)
            if target in tables:
                table = tables[target]
                attributes = files.xattrs(link)
                assert list(attributes) == [NAME]
                seen[table].add(attributes[NAME])
    assert len(seen) > 1
    assert seen == {table: {_of_this_machine(*_OURS[table])} for table in seen}


def test_what_is_no_socket_has_no_such_attribute(lab: Lab, generation: str) -> None:
    files = lab.session(generation).files
    assert files.xattrs("/proc/1/exe") == {}
    assert files.xattrs("/proc/1/status") == {}
