"""namespaces: what the guest's /proc/PID/ns and lsns said right before the freeze."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from live_files import Answers, LiveFiles
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.errors import CallRolledBack, OptionError
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.namespaces import TYPES

Lab = Any


def ask(kernel: Any, **options: Any) -> list[dict[str, Any]]:
    """The rows of the tool as dictionaries, each with its depth."""
    tool = tools.load("namespaces")
    chosen = tool.defaults() | options
    names = [column.name for column in tool.columns]
    return [
        dict(zip(names, row.cells, strict=True)) | {"depth": row.depth} for row in tool.rows(kernel, chosen)
    ]


def test_each_namespace_has_the_processes_that_the_guest_saw_in_it(lab: Lab, generation: str) -> None:
    truth = lab.sample(generation).truth
    said: dict[tuple[str, int], list[int]] = {}
    for path, reading in truth.links.items():
        match = re.fullmatch(r"/proc/(\d+)/ns/(\w+)", path)
        if match and match[2] in TYPES and not reading.errno and int(match[1]) in truth.processes:
            kind, _, inode = os.fsdecode(reading.data).strip("]").partition(":[")
            said.setdefault((kind, int(inode)), []).append(int(match[1]))
    observer = truth.processes[-1]  # did not read of itself
    found: dict[tuple[str, int], list[int]] = {}
    for row in ask(lab.session(generation), processes=True):
        if row["depth"] and row["PID"] == observer:
            continue
        if row["depth"]:
            found[row["TYPE"], row["NS"]].append(row["PID"])
        else:
            assert (row["TYPE"], row["NS"]) not in found
            found[row["TYPE"], row["NS"]] = []
    assert found == {key: sorted(pids) for key, pids in said.items()}


def test_lsns_shows_the_same_but_for_itself(lab: Lab, rich_generation: str) -> None:
    truth = lab.sample(rich_generation).truth
    rows = {str(row["NS"]): row for row in ask(lab.session(rich_generation))}
    for line in truth.command("lsns").splitlines()[1:]:
        inode, kind, count, pid, _user, command = line.split(maxsplit=5)
        row = rows.pop(inode)
        lsns_is_in_it = row["PID"] == 1
        assert (row["TYPE"], row["NPROCS"], row["PID"]) == (kind, int(count) - lsns_is_in_it, int(pid))
        assert command.lstrip("|`- ") == str(row["COMMAND"]).strip("[]")
    assert rows == {}


def test_namespaces_are_chosen_by_kind_and_by_process(lab: Lab) -> None:
    session = lab.session("6.12")
    inner = next(row for row in ask(session, type=("pid",)) if row["PID"] != 1)
    rows = ask(session, task=inner["PID"])
    assert {row["TYPE"] for row in rows} == set(TYPES)
    assert inner in rows
    with pytest.raises(OptionError, match="--type nets: no such kind of namespace"):
        ask(session, type=("nets",))
    with pytest.raises(OptionError, match="--task 4000000: no such process"):
        ask(session, task=4_000_000)


class GuestFiles(LiveFiles):
    """Two processes: one in every namespace, and one that holds another network namespace by a descriptor."""

    def listdir(self, path: str) -> list[str]:
        self.replaced("listdir", path)
        return {"/proc": ["1", "7", "self"], "/proc/7/fd": ["0", "3"]}.get(path, [])

    def readlink(self, path: str) -> str:
        found = self.replaced("readlink", path)
        if found:
            return found.decode()
        if path == "/proc/7/fd/3":
            return "net:[5]"
        return f"{path.split('/')[-1]}:[1]" if "/ns/" in path else "/dev/null"


class Guest(LiveKernel):
    """A kernel with those processes."""

    def __init__(self, answers: Answers) -> None:
        super().__init__(answers)
        self.files = GuestFiles(answers)


FILES: dict[str, bytes | Exception] = {
    **{f"/proc/{pid}/cmdline": b"program\0" for pid in (1, 7)},
    "/proc/1/mountinfo": b"9 1 0:4 net:[6] /run/netns/blue\\040sky rw shared:1 - nsfs nsfs rw\n"
    b"8 1 0:5 / /x rw - tmpfs nsfs rw\n",
}


def test_namespaces_without_processes_are_found_by_mounts_and_descriptors() -> None:
    assert [row["NS"] for row in ask(Guest(FILES), type=("net",))] == [1, 6]
    rows = ask(Guest(FILES), type=("net",), persistent=True)
    assert [(row["NS"], row["NPROCS"], row["PID"], row["NSFS"]) for row in rows] == [
        (1, 2, 1, None),
        (5, 0, None, "7/3"),
        (6, 0, None, "/run/netns/blue sky"),
    ]


@pytest.mark.parametrize("path", ["readlink /proc/7/ns/uts", "listdir /proc/7/fd"])
def test_a_process_whose_namespaces_cannot_be_read_has_a_row_with_the_reason(path: str) -> None:
    rows = ask(Guest(FILES | {path: CallRolledBack("call", "page fault")}), persistent=True)
    gap = Unavailable(f"{path.split()[1]}: page fault")
    assert rows[-1]["PID"] == 7
    assert rows[-1]["NS"] == rows[-1]["COMMAND"] == gap
    assert [row["NPROCS"] for row in rows if row["TYPE"] == "mnt"] == [2]
