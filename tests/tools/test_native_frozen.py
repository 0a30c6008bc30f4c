"""Tools on a snapshot against what the native tool printed in the guest, of what stood still until the
freeze."""

from __future__ import annotations

import re
import time
from calendar import timegm
from typing import Any

import pytest

from hybridbridge_vol import tools
from hybridbridge_vol.toolkit.cells import Unavailable, as_text
from hybridbridge_vol.toolkit.printable import printable

Lab = Any

AT_WORK = re.compile(
    r"/usr/libexec/observer|\[?(kworker|rcu|ksoftirqd|migration|cpuhp|kcompactd)|(/bin/sh /)?init$"
)
"""Command lines of those that did something between the reading of ps and the freeze."""


def ask(kernel: Any, name: str, **given_options: Any) -> list[dict[str, Any]]:
    """A tool's rows by the names of its columns; cells as they are shown, unless they could not be read."""
    tool = tools.load(name)
    options = tool.defaults() | given_options
    columns = tool.columns_for(options)
    return [
        {
            column.name: cell if isinstance(cell, Unavailable) else as_text(cell, column.kind)
            for cell, column in zip(row.cells, columns, strict=True)
        }
        for row in tool.rows(kernel, options)
    ]


def words(text: str, heads: int) -> list[list[str]]:
    """The words of each line below the headings."""
    return [line.split() for line in text.splitlines()[heads:] if line.strip()]


def test_arp(lab: Lab, rich_generation: str) -> None:
    said = words(lab.sample(rich_generation).truth.command("arp -n"), 1)
    rows = ask(lab.session(rich_generation), "arp")
    assert [[value for value in row.values() if value not in ("-", "")] for row in rows] == said


@pytest.mark.parametrize(("family", "said"), [({"inet": True}, "route -n"), ({"inet6": True}, "route -6 -n")])
def test_route(lab: Lab, rich_generation: str, family: dict[str, bool], said: str) -> None:
    theirs = words(lab.sample(rich_generation).truth.command(said), 2)
    names = (
        "DESTINATION",
        "GATEWAY",
        *(["GENMASK"] if "inet" in family else []),
        "FLAGS",
        "METRIC",
        "REF",
        "USE",
        "IFACE",
    )
    ours = [[row[name] for name in names] for row in ask(lab.session(rich_generation), "route", **family)]
    if (
        "inet6" in family
    ):  # each tool that looks a route up holds and counts it; sockets of those that ended held them too
        theirs, ours = ([[*line[:4], line[-1]] for line in table] for table in (theirs, ours))
    assert ours == theirs


def test_netstat_g(lab: Lab, rich_generation: str) -> None:
    said = words(lab.sample(rich_generation).truth.command("netstat -g"), 3)
    assert [list(row.values()) for row in ask(lab.session(rich_generation), "netstat", groups=True)] == said


def test_mount(lab: Lab, generation: str) -> None:
    said = lab.sample(generation).truth.command("mount").splitlines()
    ours = []
    for row in ask(lab.session(generation), "mounts", pid=(1,)):
        # mount(8) has the access first, once, then the mount's own options and the file system's
        own, inner = (row[name].split(",") for name in ("OPTIONS", "SUPER"))
        ours.append(f"{row['SOURCE']} on {row['TARGET']} type {row['TYPE']} ({','.join([*own, *inner[1:]])})")
    assert ours == said


def test_pmap(lab: Lab, rich_generation: str) -> None:
    lines = words(lab.sample(rich_generation).truth.command("pmap -X 1"), 2)
    said = [line[:7] for line in lines if re.fullmatch("[0-9a-f]{8,}", line[0])]
    ours = []
    for row in ask(lab.session(rich_generation), "maps", pid=(1,), smaps=True):
        start, offset = (int(row[name], 16) for name in ("START", "OFFSET"))
        device = ":".join(f"{int(number):02x}" for number in row["DEVICE"].split(":"))
        ours.append(
            [f"{start:x}", row["PERM"], f"{offset:08x}", device, row["INODE"], row["SIZE"], row["RSS"]]
        )
    assert len(said) > 10
    assert [line[:6] for line in ours] == [line[:6] for line in said]
    moved = [a for a, b in zip(ours, said, strict=True) if a != b]
    assert len(moved) <= 3, moved  # process 1 waited for the observer, whom it had started before


@pytest.mark.parametrize(
    ("family", "command"), [({"inet": True}, "ip rule"), ({"inet6": True}, "ip -6 rule")]
)
def test_ip_rule(lab: Lab, rich_generation: str, family: dict[str, bool], command: str) -> None:
    said = [
        line.replace(":", " ").split()
        for line in lab.sample(rich_generation).truth.command(command).splitlines()
    ]
    rows = ask(lab.session(rich_generation), "ip", rule=True, **family)
    assert [[row["PRIORITY"], "from", row["FROM"], row["ACTION"], row["TABLE"]] for row in rows] == said


def test_ip_link(lab: Lab, rich_generation: str) -> None:
    truth = lab.sample(rich_generation).truth
    rows = {row["IFACE"].split("@")[0]: row for row in ask(lab.session(rich_generation), "ip", link=True)}
    links = re.split(r"^\d+: ", truth.command("ip -d -s link"), flags=re.MULTILINE)[1:]
    assert len(links) == len(rows)
    for text in links:
        name = re.split("[:@]", text)[0]
        row = rows[name]
        after = {key: re.search(rf"\b{key} (\S+)", text) for key in ("mtu", "qdisc", "state")}
        assert {key: found[1] for key, found in after.items() if found} == {
            key: row[key.upper()] for key in after
        }
        flags = re.search("<(.*)>", text)
        assert flags is not None
        assert flags[1] == row["FLAGS"]


def test_dmesg_with_times_of_day(lab: Lab, rich_generation: str) -> None:
    said = [
        line
        for line in lab.sample(rich_generation).truth.command("dmesg -T").splitlines()
        if line.startswith("[")
    ]
    messages = {(row["MESSAGE"].strip(), row["WHEN"]) for row in ask(lab.session(rich_generation), "dmesg")}
    for line in said:
        when, _, message = line[1:].partition("] ")
        theirs = timegm(time.strptime(when, "%a %b %d %H:%M:%S %Y"))
        near = {time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(theirs + off)) for off in (-1, 0, 1)}
        assert any((printable(message).strip(), moment) in messages for moment in near), line


def test_dmesg_of_some_levels(lab: Lab, rich_generation: str) -> None:
    said = [
        line
        for line in lab.sample(rich_generation).truth.command("dmesg -x -l warn,notice").splitlines()
        if line
    ]
    rows = ask(lab.session(rich_generation), "dmesg", level=("warn", "notice"))
    assert len(rows) >= len(said) > 10
    for row, native in zip(rows, said, strict=False):  # some may have been written after it
        ours = f"{row['FACILITY']:<6}:{row['LEVEL']:<6}: [{float(row['SECONDS']):12.6f}] {row['MESSAGE']}"
        assert (
            printable(native) == ours or printable(native).strip() == row["MESSAGE"].strip()
        )  # further lines are indented


def test_uptime_since(lab: Lab, rich_generation: str) -> None:
    (row,) = ask(lab.session(rich_generation), "uptime")
    truth = lab.sample(rich_generation).truth
    booted = truth.times["realtime"] - truth.times["boottime"]
    said = truth.command("uptime -s").strip()
    assert said in {time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(booted + off)) for off in (-1, 0, 1)}
    assert row["BOOTED"] in {
        time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(booted + off)) for off in (0, -1)
    }


def test_ps_aux(lab: Lab, rich_generation: str) -> None:
    rows = {row["PID"]: row for row in ask(lab.session(rich_generation), "ps")}
    compared = 0
    for line in lab.sample(rich_generation).truth.command("ps aux").splitlines()[1:]:
        _user, pid, _cpu, memory, size, resident, tty, stat, _start, _time, command = line.split(None, 10)
        row = rows.get(pid)
        if row is None or AT_WORK.match(command):
            continue
        compared += 1
        said = [memory, size, resident, tty, stat]
        assert [row[name] for name in ("%MEM", "VSZ", "RSS", "TTY", "STAT")] == said, (line, row)
    assert compared > 40


def test_ps_ef_and_its_threads(lab: Lab, rich_generation: str) -> None:
    session, truth = lab.session(rich_generation), lab.sample(rich_generation).truth
    rows = {(row["PID"], row["LWP"]): row for row in ask(session, "ps", threads=True)}
    compared = 0
    for line in truth.command("ps -eLfww").splitlines()[1:]:
        _uid, pid, parent, lwp, _c, count, _start, tty, _time, command = line.split(None, 9)
        row = rows.get((pid, lwp))
        if row is None or AT_WORK.match(command):
            continue
        compared += 1
        assert [row["PPID"], row["NLWP"], row["TTY"]] == [parent, count, tty]
        if (
            command.isascii() and "?" not in command
        ):  # ps shows what the guest's locale cannot as question marks
            assert row["CMD"].strip() == command.strip()
    assert compared > 60
