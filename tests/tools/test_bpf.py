"""bpf: what the guest's bpftool said right before the freeze."""

from __future__ import annotations

import json
from typing import Any

import pytest
from filters import EACH, ask, asked
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.bpf.btf_names import BtfNames
from hybridbridge_vol.bpf.disassembly import called, instruction_text, instructions
from hybridbridge_vol.bpf.link_text import Names, link_attached
from hybridbridge_vol.bpf.names import ATTACH_TYPES, LINK_TYPES, MAP_TYPES, PROGRAM_TYPES, cgroup_ways
from hybridbridge_vol.bpf.objects import Link
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.ebpf.attached import Place, unexplained

Lab = Any
LOADER = "bpf_programs"


def named(said: str | int, names: tuple[str, ...]) -> str:
    """A type that the guest's bpftool knows, or only by its number."""
    return names[said] if isinstance(said, int) else said


def numbers(text: str | None) -> list[int]:
    return [int(word) for word in (text or "").split()]


@pytest.mark.parametrize("name", EACH)
def test_programs_are_the_guest_s(lab: Lab, name: str) -> None:
    said = json.loads(lab.sample(name).truth.command("bpftool -j -f prog show"))
    ours = {row["ID"]: row for row in ask(lab.session(name), "bpf")}
    assert list(ours) == [one["id"] for one in said]
    assert len(said) >= 18
    for one in said:
        row = ours[one["id"]]
        assert (row["TYPE"], row["NAME"], row["TAG"], row["UID"]) == (
            named(one["type"], PROGRAM_TYPES), one.get("name", ""), one["tag"], one["uid"],
        )  # fmt: skip
        assert abs(row["LOADED"] - one["loaded_at"]) < 2
        assert (row["GPL"] == "yes") == one["gpl_compatible"]
        assert (row["XLATED"], row["JITED"]) == (one["bytes_xlated"], one["bytes_jited"])
        assert row["MEMLOCK"] == one["bytes_memlock"]
        assert numbers(row["MAPS"]) == one.get("map_ids", [])
        assert (row["PINNED"] or "").split() == one.get("pinned", [])


@pytest.mark.parametrize("name", EACH)
def test_maps_are_the_guest_s(lab: Lab, name: str) -> None:
    said = json.loads(lab.sample(name).truth.command("bpftool -j -f map show"))
    ours = {row["ID"]: row for row in ask(lab.session(name), "bpf", maps=True)}
    assert list(ours) == [one["id"] for one in said]
    for one in said:
        row = ours[one["id"]]
        assert (row["TYPE"], row["NAME"], row["FLAGS"]) == (
            named(one["type"], MAP_TYPES), one.get("name", ""), one["flags"],
        )  # fmt: skip
        assert (row["KEY"], row["VALUE"], row["MAX"]) == (
            one["bytes_key"], one["bytes_value"], one["max_entries"],
        )  # fmt: skip
        assert row["MEMLOCK"] == one["bytes_memlock"]
        assert (row["FROZEN"] == "yes") == bool(one["frozen"])
        # from 7.x on the kernel leaves what it does not set as bpftool had it from the map before
        assert row["BTF"] in (one.get("btf_id"), None)
        assert row["BTF"] or one["name"] not in ("seen", "config")
        assert (row["PINNED"] or "").split() == one.get("pinned", [])
        assert LOADER in row["OWNERS"]


@pytest.mark.parametrize("name", EACH)
def test_links_are_the_guest_s(lab: Lab, name: str) -> None:
    said = json.loads(lab.sample(name).truth.command("bpftool -j -f link show") or "[]")
    ours = {row["ID"]: row for row in ask(lab.session(name), "bpf", links=True)}
    assert list(ours) == [one["id"] for one in said]
    for one in said:
        row = ours[one["id"]]
        assert (row["TYPE"], row["PROG"]) == (named(one["type"], LINK_TYPES), one["prog_id"])
        if "attach_type" in one and isinstance(one["attach_type"], str):
            assert row["ATTACH"] == one["attach_type"]
        where = one.get("tp_name") or one.get("target_name")
        assert where is None or row["WHERE"] == where
        assert (row["PINNED"] or "").split() == one.get("pinned", [])
    where = {row["WHERE"] for row in ours.values()}
    assert {"sched_process_exec", "task", "out1", "/spied"} <= where
    if not name.startswith("5.10"):  # which does not say to what its trampolines belong
        assert {"vfs_unlink", "bpf_lsm_file_open"} <= where


@pytest.mark.parametrize("name", EACH)
def test_type_information_is_the_guest_s(lab: Lab, name: str) -> None:
    said = json.loads(lab.sample(name).truth.command("bpftool -j btf show"))
    ours = {row["ID"]: row for row in ask(lab.session(name), "bpf", btf=True)}
    assert [(row["ID"], row["SIZE"]) for row in ours.values()] == [(one["id"], one["size"]) for one in said]
    for one in said:
        row = ours[one["id"]]
        assert row["NAME"] == one.get("name")
        assert numbers(row["MAPS"]) == sorted(one["map_ids"])
        assert numbers(row["PROGRAMS"]) == sorted(one["prog_ids"])


@pytest.mark.parametrize("name", EACH)
def test_places_are_the_guest_s(lab: Lab, name: str) -> None:
    truth = lab.sample(name).truth
    ours = {row["ID"]: row["ATTACHED"] or "" for row in ask(lab.session(name), "bpf")}
    for event in json.loads(truth.command("bpftool -j perf show")):
        where = event.get("func") or event.get("tracepoint") or event.get("filename")
        assert f"{event['fd_type']} {where}" in ours[event["prog_id"]]
    for group in json.loads(truth.command("bpftool -j cgroup tree /sys/fs/cgroup")):
        for one in group["programs"]:
            path = group["cgroup"].removeprefix("/sys/fs/cgroup")
            assert one["attach_type"] in ours[one["id"]]
            assert path in ours[one["id"]]
    (net,) = json.loads(truth.command("bpftool -j net show"))
    assert net["xdp"]
    for one in net["xdp"]:
        assert f"xdp {one['devname']}" in ours[one["id"]]
    for one in net["tc"]:
        assert one["devname"] in ours[one["id"]]


@pytest.mark.parametrize("name", EACH)
def test_owners_and_marks(lab: Lab, name: str) -> None:
    rows = {row["NAME"]: row for row in ask(lab.session(name), "bpf")}
    assert LOADER in rows["hide_names"]["OWNERS"]
    marks = rows["hide_names"]["MARKS"]
    assert "bpf_probe_write_user" in marks and "bpf_send_signal" in marks and "getdents64" in marks
    assert "before any filter" in rows["xdp_drop"]["MARKS"]
    assert rows["exec"]["MARKS"] is None
    # what only an event, a group, a file or a map keeps has no owner, and is kept nevertheless
    for kept in ("spy_open", "new_socket", "tc_mark", "tail"):
        assert rows[kept]["OWNERS"] is None
        assert "nothing" not in (rows[kept]["MARKS"] or "")


@pytest.mark.parametrize("name", EACH)
def test_translated_code_is_the_guest_s(lab: Lab, name: str) -> None:
    session, dumped = lab.session(name), 0
    for command, said in asked(lab.sample(name)).items():
        if "dump xlated" not in command or "failed" in said:
            continue
        number = int(command.split()[-2])
        ours = []
        for row in ask(session, "bpf", prog=(number,)):
            ours += [f"{row['INDEX']}: {row['TEXT']}", row["CODE"]]
        assert ours == [line.strip() for line in said.strip().splitlines()]
        dumped += 1
    assert dumped >= 18


@pytest.mark.parametrize("name", EACH)
def test_elements_are_the_guest_s(lab: Lab, name: str) -> None:
    session, seen = lab.session(name), 0
    for command, said in asked(lab.sample(name)).items():
        if "map dump" not in command or "failed" in said:
            continue
        number = int(command.split()[-1])
        found = [
            one for one in json.loads(said) if "No such file" not in str(one.get("value"))
        ]  # empty places
        rows = ask(session, "bpf", map=(number,))
        if any("values" in one for one in found) and name.startswith("5.10"):
            # bpf_percpu_array_copy of this build reaches our buffer by its distance from the snapshot's
            # value, which cannot be told from a forged pointer: it is refused, and said
            assert "forged pointer" in str(rows[0]["VALUE"])
            continue
        assert len(rows) == len(found)
        for one, row in zip(found, rows, strict=True):
            assert row["KEY"] == plain(one["key"])
            if "values" in one:
                assert row["VALUE"] == "".join(plain(each["value"]) for each in one["values"])
            else:
                error = isinstance(one["value"], dict)
                assert row["VALUE"] == (None if error else plain(one["value"]))
            if "formatted" in one:
                value = one["formatted"]["value"]
                assert row["TYPED"] == (
                    f"{one['formatted']['key']}: {{pid: {value['pid']}, cookie: {value['cookie']}}}"
                )
            seen += 1
    assert seen > 50


def plain(words: list[str]) -> str:
    return "".join(word.removeprefix("0x") for word in words)


def test_both_bridges_say_the_same(lab: Lab) -> None:
    sample = lab.sample("6.1 filters")
    with open_session(sample.dump, lab.store.root, mode="slow") as slow:
        for options in ({}, {"maps": True}, {"links": True}, {"map": (1, 8)}, {"prog": (5,)}):
            assert ask(slow, "bpf", **options) == ask(lab.session("6.1 filters"), "bpf", **options)


def test_what_does_not_exist_is_reported(lab: Lab) -> None:
    session = lab.session("6.1 filters")
    for options in ({"map": (4711,)}, {"prog": (4711,)}):
        (row,) = ask(session, "bpf", **options)
        assert "No such file" in str(list(row.values())[-1])


def test_each_way_into_a_control_group_is_that_of_programs_of_one_type() -> None:
    ways = [number for number, name in enumerate(ATTACH_TYPES) if name.startswith(("cgroup_", "lsm_cgroup"))]
    assert cgroup_ways(range(len(PROGRAM_TYPES))) == ways
    by_type = [cgroup_ways([number]) for number in range(len(PROGRAM_TYPES))]
    assert sorted(way for found in by_type for way in found) == ways
    of_packets = by_type[PROGRAM_TYPES.index("cgroup_skb")]
    assert [ATTACH_TYPES[number] for number in of_packets] == ["cgroup_inet_ingress", "cgroup_inet_egress"]


def test_a_perf_event_whose_program_a_link_names_is_not_missed() -> None:
    """bpftrace's `interval`: the kernel answers EOPNOTSUPP for the event, and names the link's program."""
    events = [Unavailable("/proc/7/fd/14: Operation not supported"), Unavailable("/proc/8/fd/3: the same")]
    links = [Place(116, "event", "type 6 config 0x0"), Place(113, "kprobe", "vfs_readlink")]
    assert unexplained(events[:1], links) == []
    assert unexplained(events, links) == events[1:]
    assert unexplained(events, links[1:]) == events


@given(st.binary(max_size=400))
def test_any_bytes_are_disassembled(code: bytes) -> None:
    found = list(instructions(code))
    assert len(found) <= len(code) // 8
    assert called(code) == list(dict.fromkeys(it.value for it in found if it.code == 0x85 and it.source != 1))
    for one in found:
        assert instruction_text(one, lambda _one: "helper").startswith(f"({one.code:02x}) ")


@given(st.integers(0, len(LINK_TYPES) + 2), st.binary(min_size=64, max_size=64), st.binary(max_size=40))
def test_any_link_is_shown(kind: int, data: bytes, where: bytes) -> None:
    names = Names(str, str, lambda obj, number: f"{obj} {number}", hex)
    link_attached(Link(1, kind, 2, data), where, names)


@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_type_information_has_names(data: bytes, number: int) -> None:
    header = (
        bytes.fromhex("9feb0100") + (24).to_bytes(4, "little") + bytes(4) + len(data).to_bytes(4, "little")
    )
    whole = header + len(data).to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + data
    assert isinstance(BtfNames(whole, BtfNames(whole)).name(number), str)
