"""Files that are namespaces, and have no name below /proc/PID/ns: one that a process has open."""

from __future__ import annotations

import struct

import pytest
from generations import Lab
from native_runs import Run

from hybridbridge_vol.native.namespace_ids import by_descriptor, by_process, descriptor_in

IMAGE = "6.1 filters"
KIND, OWNER = 0xB703, 0xB701
"""NS_GET_NSTYPE and NS_GET_USERNS, include/uapi/linux/nsfs.h."""
NET = 0x40000000
"""CLONE_NEWNET."""
ASK = f"""
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
owner = fcntl.ioctl(file, {KIND:#x}), os.fstat(fcntl.ioctl(file, {OWNER:#x})).st_ino
print(os.fstat(file).st_ino, *owner)
"""
QUESTION = struct.pack("<IHHII4xHHi", 28, 90, 1, 7, 0, 8, 3, 5)
"""RTM_GETNSID of descriptor 5."""


def test_a_namespace_that_a_process_has_open_answers_as_one(lab: Lab, run: Run) -> None:
    """The guest's bpf programs hold their own network."""
    files = lab.session(IMAGE).files
    links = {
        f"/proc/{pid}/fd/{number}": files.readlink(f"/proc/{pid}/fd/{number}")
        for pid in files.listdir("/proc")
        if pid.isdecimal()
        for number in files.listdir(f"/proc/{pid}/fd")
    }
    opened = {path: link for path, link in links.items() if link.startswith("net:[")}
    assert opened
    user = files.readlink("/proc/1/ns/user")
    for path, link in opened.items():
        done = run(IMAGE, f"python3 -c '{ASK}' {path}")
        kind, owner = str(NET), user.partition("[")[2].rstrip("]")
        assert done.stdout.decode().split() == [link.partition("[")[2].rstrip("]"), kind, owner], done


def test_another_file_is_none(run: Run) -> None:
    done = run(IMAGE, f"python3 -c '{ASK}' /proc/1/status")
    assert done.status != 0 and b"Inappropriate ioctl" in done.stderr


def test_the_number_of_a_namespace_that_a_file_names_is_answered(lab: Lab, run: Run) -> None:
    """Without a process there, `ip netns` asks by the file; here by a descriptor's, of the program's own."""
    number = lab.session(IMAGE).files.readlink("/proc/1/ns/net").partition("[")[2].rstrip("]")
    done = run(IMAGE, "lsns -n -t net -o NS,NETNSID")
    assert done.status == 0 and number in done.stdout.decode() and not done.stderr, done


def test_only_a_namespace_that_a_descriptor_names_is_named_otherwise() -> None:
    assert descriptor_in(QUESTION) == 5
    assert by_process(QUESTION, 77) == struct.pack("<IHHII4xHHi", 28, 90, 1, 7, 0, 8, 2, 77)
    assert by_descriptor(QUESTION, 9) == struct.pack("<IHHII4xHHi", 28, 90, 1, 7, 0, 8, 3, 9)


@pytest.mark.parametrize(
    "other",
    [by_process(QUESTION, 77), QUESTION[:24], b"", struct.pack("<IHHII4xHHi", 28, 18, 1, 7, 0, 8, 3, 5)],
)
def test_another_message_names_no_descriptor(other: bytes) -> None:
    assert descriptor_in(other) is None
