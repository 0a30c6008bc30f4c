"""maps, environ and mounts against what the guest said of itself."""

from __future__ import annotations

from typing import Any

import pytest
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import EndlessFile
from hybridbridge_vol.procfs.mounts import unescape
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Row
from samples.truth import Reading

Lab = Any
NOTHING = Reading(0, b"")


def rows_of(kernel: GuestKernel, name: str, **options: Any) -> list[Row]:
    """A tool's rows."""
    tool = tools.load(name)
    return list(tool.rows(kernel, tool.defaults() | options))


def ask(kernel: GuestKernel, name: str, **options: Any) -> list[dict[str, Any]]:
    """A tool's rows as dictionaries."""
    tool = tools.load(name)
    chosen = tool.defaults() | options
    columns = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(columns, row.cells, strict=True)) for row in tool.rows(kernel, chosen)]


def test_maps_shows_every_mapping_of_every_process(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    shown: dict[int, list[str]] = {}
    for row in ask(session, "maps"):
        major, minor = map(int, row["DEVICE"].split(":"))
        line = f"{row['START']:08x}-{row['END']:08x} {row['PERM']} {row['OFFSET']:08x} "
        line += f"{major:02x}:{minor:02x} {row['INODE']} "
        path = row["PATH"].replace("\n", "\\012")
        shown.setdefault(row["PID"], []).append(f"{line:73}{path}" if path else line)
    said = {
        pid: data for pid in truth.processes if (data := truth.late.get(f"/proc/{pid}/maps", NOTHING).data)
    }
    assert len(said) > 20
    for pid, data in said.items():
        assert (
            truth.moved(f"/proc/{pid}/maps")
            or "\n".join(shown[pid]).encode("utf-8", "surrogateescape") + b"\n" == data
        )


def test_maps_shows_how_much_is_in_memory_as_smaps_does(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    rows = ask(session, "maps", pid=(1,), smaps=True)
    said = [line.split() for line in truth.file("/proc/1/smaps").decode().splitlines()]
    for column, keys in (
        ("RSS", ["Rss:"]),
        ("PRIVATE", ["Private_Clean:", "Private_Dirty:"]),
        ("ANON", ["Anonymous:"]),
    ):
        expected = [int(words[1]) for words in said if words[0] == keys[-1]]
        if len(keys) == 2:
            expected = [
                a + int(w[1]) for a, w in zip(expected, (w for w in said if w[0] == keys[0]), strict=True)
            ]
        assert [row[column] for row in rows] == expected
        assert any(expected)


def test_environ_shows_the_variables_of_every_process(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    shown: dict[int, bytes] = {}
    for row in ask(session, "environ"):
        entry = row["VARIABLE"] if row["VALUE"] is None else f"{row['VARIABLE']}={row['VALUE']}"
        shown[row["PID"]] = shown.get(row["PID"], b"") + entry.encode("utf-8", "surrogateescape") + b"\0"
    del shown[truth.processes[-1]]  # the observer, of whom only the state was recorded
    said = {pid: truth.late.get(f"/proc/{pid}/environ", NOTHING).data for pid in truth.processes}
    assert shown == {pid: data for pid, data in said.items() if data}
    assert any(b"SECRET=hunter2" in data for data in shown.values())


def test_a_row_of_environ_names_the_bytes_of_its_variable(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    data = session.files.read("/proc/1/environ")
    rows = rows_of(session, "environ", pid=(1,))
    assert [data[row.sources[0].start : row.sources[0].end] for row in rows] == data.split(b"\0")[:-1]


def test_mounts_are_the_guests_and_a_container_has_its_own(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    links = [(pid, truth.links.get(f"/proc/{pid}/ns/mnt", NOTHING).data) for pid in truth.processes]
    namespaces = {data: pid for pid, data in reversed(links) if data}
    assert len(namespaces) > 1
    rows = ask(session, "mounts", pid=tuple(namespaces.values()))
    for pid in namespaces.values():
        own = [row for row in rows if row["PID"] == pid]
        said = [line.split(b" ") for line in truth.file(f"/proc/{pid}/mountinfo").splitlines()]
        assert [row["ID"] for row in own] == [int(words[0]) for words in said]
        assert [row["TARGET"] for row in own] == [unescape(words[4]) for words in said]
        assert [row["SUPER"] for row in own] == [words[-1].decode() for words in said]
        assert [row["TYPE"] for row in own] == [words[words.index(b"-") + 1].decode() for words in said]


def test_mounts_as_a_tree_hang_below_the_mount_they_are_on(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    tree = rows_of(session, "mounts", tree=True)
    depth = {row.cells[1]: row.depth for row in tree}
    assert depth.keys() == {row.cells[1] for row in rows_of(session, "mounts")}
    assert all(row.depth == depth[row.cells[2]] + 1 for row in tree if row.depth)
    assert max(depth.values()) >= 2


@pytest.mark.parametrize("name", ["maps", "environ", "mounts"])
def test_a_process_that_cannot_be_read_has_a_row_with_the_reason_and_the_next_is_shown(name: str) -> None:
    file = {"maps": "maps", "environ": "environ", "mounts": "mountinfo"}[name]
    kernel = LiveKernel({f"/proc/1/{file}": CallRolledBack("read", "page fault")})
    rows = ask(kernel, name, pid=(1, "self"))
    gap = Unavailable(f"/proc/1/{file}: page fault")
    assert rows[0]["PID"] == 1
    assert list(rows[0].values())[-1] == gap
    assert len(rows) > 1
    assert gap not in rows[-1].values()


def test_a_cyclic_list_of_mounts_is_shown_once_and_reported() -> None:
    line = b"1 0 0:1 / / rw - proc proc rw\n"
    kernel = LiveKernel({"/proc/1/mountinfo": EndlessFile("/proc/1/mountinfo", line * 9)})
    first, last = ask(kernel, "mounts")
    assert first["TYPE"] == "proc"
    assert isinstance(last["TYPE"], Unavailable)
    assert "is cyclic" in last["TYPE"].reason
