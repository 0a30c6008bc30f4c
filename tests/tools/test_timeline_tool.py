"""timeline: every time of the guest in one table, and in the forms that other programs take."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from answers import ask
from filters import EACH
from generations import Lab

from hybridbridge_vol import tools
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Options
from hybridbridge_vol.tools.events import formats
from hybridbridge_vol.tools.events.collect import Event, FileFacts, sources
from hybridbridge_vol.tools.events.histories import parse_history
from hybridbridge_vol.tools.host.text_file import Line
from hybridbridge_vol.tools.timeline import TOOL
from samples.truth import Truth


def chosen(**options: Any) -> Options:
    return TOOL.defaults() | options


def written(session: Session, form: str, **options: Any) -> bytes:
    parts = TOOL.raw(session, chosen(**{form: True}, **options))
    return b"".join(part for part in parts if isinstance(part, bytes))


def listed(truth: Truth) -> dict[str, tuple[int, int, int, int, int, int, int]]:
    """Mode, owner, group, size, and the times of modification, change and access of the guest's files."""
    printed = next(text for line, text in truth.commands.items() if line.startswith("find / "))
    found = {}
    for line in printed.split("\0\n")[:-1]:
        path, mode, uid, gid, size, *times = line.split("\0")
        # whole seconds: as a float, the last nanoseconds of a second are the next one
        modified, changed, accessed = (int(time.partition(".")[0]) for time in times)
        found[path] = int(mode, 8), int(uid), int(gid), int(size), modified, changed, accessed
    return found


def test_files_have_the_times_that_the_guest_gave_them(people_session: Session, people_truth: Truth) -> None:
    body = {}
    for line in written(people_session, "body", source=("files",)).decode().splitlines():
        fields = line.split("|")
        assert len(fields) == 11 and fields[0] == "0"
        body[fields[1].partition(" -> ")[0]] = fields
    same = 0
    for path, (_mode, uid, gid, size, modified, changed, _accessed) in listed(people_truth).items():
        if (
            not path.isprintable()
            or "|" in path
            or path.startswith(("/srv/plan", "/dev", "/run", "/proc", "/sys"))
        ):
            continue
        fields = body[path]
        assert fields[4:6] == [str(uid), str(gid)], path
        if fields[3].startswith("-"):
            assert fields[6] == str(size), path
        assert fields[8:10] == [str(modified), str(changed)], path
        same += 1
    assert same > 200


def test_events_of_every_source_stand_in_their_order(people_session: Session, people_truth: Truth) -> None:
    rows = ask(people_session, "timeline")
    times = [row["TIME"] for row in rows if not isinstance(row["TIME"], Unavailable)]
    assert times == sorted(times)
    assert {row["SOURCE"] for row in rows} >= {
        "ps", "files", "dmesg", "logins", "users", "containers", "uptime", "history",
    }  # fmt: skip
    started = [row["TIME"] for row in rows if row["SOURCE"] == "ps"]
    assert started == sorted(row["START"] for row in ask(people_session, "ps"))
    captured = next(row["TIME"] for row in rows if row["EVENT"] == "captured")
    assert abs(captured - people_truth.times["realtime"]) < 0.1
    texts = [(row["SOURCE"], row["EVENT"], row["WHAT"]) for row in rows]
    assert any(item[:2] == ("logins", "login") and "USER=toor" in item[2] for item in texts)
    assert any(item[:2] == ("users", "password changed") and "NAME=bob" in item[2] for item in texts)
    assert any(item[:2] == ("containers", "container made") and "NAME=web" in item[2] for item in texts)


def test_histories_of_shells_have_their_times(people_session: Session) -> None:
    rows = ask(people_session, "timeline", source=("history",))
    assert [(row["TIME"], row["USER"], row["WHAT"].partition(" (")[0]) for row in rows] == [
        (1795500000, "root", "wget http://203.0.113.9/x"), (1795500060, "root", "chmod +x x"),
        (1795500100, "alice", "echo zsh"), (1795500101, "alice", "sleep 5"),
        (1795500200, "alice", "echo fish"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", EACH)
def test_what_the_kernel_keeps_times_of_is_in_it(lab: Lab, name: str) -> None:
    session = lab.session(name)
    columns = {"bpf": "LOADED", "conntrack": "BEGUN", "wireguard": "HANDSHAKE"}
    rows = ask(session, "timeline", source=tuple(columns))
    for source, column in columns.items():
        times = sorted(row[column] for row in ask(session, source) if row[column] is not None)
        assert times or source == "wireguard"  # whose peers never met
        assert [row["TIME"] for row in rows if row["SOURCE"] == source] == times
    made = [row for row in ask(session, "timeline", source=("xfrm",)) if "made" in row["EVENT"]]
    assert len(made) == len(ask(session, "xfrm"))


def test_timesketch_gets_what_it_asks_for(people_session: Session) -> None:
    lines = [json.loads(line) for line in written(people_session, "jsonl").splitlines()]
    assert len(lines) > 500
    for line in lines:
        assert {"message", "datetime", "timestamp", "timestamp_desc"} <= set(line)
        moment = time.strptime(line["datetime"].partition(".")[0], "%Y-%m-%dT%H:%M:%S")
        assert line["timestamp"] // 1_000_000 == time.mktime(moment) - time.timezone
        assert line["datetime"].endswith("+00:00") and line["message"] and line["timestamp_desc"]
    text = written(people_session, "timesketch-csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(lines)
    assert [row["timestamp"] for row in rows] == [str(line["timestamp"]) for line in lines]
    assert all(text.isprintable() for row in rows for text in row.values())


def test_a_span_and_sources_are_chosen(people_session: Session) -> None:
    rows = ask(people_session, "timeline", source=("logins",), after="2026-11-21", before="2026-11-22T12:00Z")
    assert rows and all(1795219200 <= row["TIME"] < 1795348800 for row in rows)
    with pytest.raises(OptionError, match="knows no times"):
        ask(people_session, "timeline", source=("uname",))
    with pytest.raises(OptionError, match="not a time"):
        ask(people_session, "timeline", after="yesterday")
    with pytest.raises(OptionError, match="give one"):
        ask(people_session, "timeline", body=True, jsonl=True)


def test_what_tools_say_of_their_times_is_true() -> None:
    assert len(sources()) > 6
    for name in sources()[:-1]:
        tool = tools.load(name)
        columns = {column.name: column.kind for column in tool.columns}
        assert all(columns[moment.column] == "time" for moment in tool.moments), name
        assert set(tool.moment_text) <= set(columns) and tool.moment_text, name


def test_no_name_of_a_guest_makes_a_line_of_a_body_file() -> None:
    file = FileFacts("/a|b\n0|/forged|1", 5, "-rw-r--r--", 1, 2, 3)
    events = [
        Event(10.5, ("modified", "accessed"), "files", "x", file.path, None, file),
        Event(20, ("created",), "files", "y", file.path, None, file),
        Event(30, ("created",), "ps", "process started", "evil\nname|"),
        Event(-1, ("created",), "ps", "x", "before time"),
        Event(1e18, ("created",), "ps", "x", "behind it"),
        Event(Unavailable("/x: not in memory"), (), "ps", "not read", ""),
    ]
    lines = b"".join(part for part in formats.body(events) if isinstance(part, bytes)).decode().split("\n")
    assert lines == [
        "0|[ps] process started: evil\\nname\\x7c|0||0|0|0|0|0|0|30",
        "0|/a\\x7cb\\n0\\x7c/forged\\x7c1|5|-rw-r--r--|1|2|3|10|10|0|20",
        "",
    ]
    lacks = [part.reason for part in formats.json_lines(events) if isinstance(part, Unavailable)]
    assert len(lacks) == 3 and lacks[2] == "/x: not in memory"


def test_a_history_is_parsed_whichever_shell_wrote_it() -> None:
    text = "#1700000000\na\nb\n#notatime\n: 1700000001:0;c;d\n- cmd: e\n  when: 1700000002\n"
    text += "  when: 1700000003\n#1700000004"
    lines = [Line(number, line) for number, line in enumerate(text.split("\n"), 1)]
    assert [(seconds, line.text, line.number) for seconds, line in parse_history(lines)] == [
        (1700000000, "a", 2), (1700000001, "c;d", 5), (1700000002, "e", 6),
    ]  # fmt: skip


def test_volatilitys_timeliner_includes_the_times_of_our_plugins(
    people_session: Session, lab: Lab, people: str, tmp_path: Path
) -> None:
    """By its body file: in Volatility 2.28 each row of its table has the times of the last event."""
    (tmp_path / "hybridbridge").mkdir()
    (tmp_path / "hybridbridge" / "trust").symlink_to(lab.store.root)
    root = Path(__file__).resolve().parents[2]
    command = [
        str(Path(sys.executable).parent / "vol"), "-q", "-p", str(root / "plugins"), "-o", str(tmp_path),
        "-f", str(lab.sample(people).dump), "timeliner.Timeliner", "--create-bodyfile", "--plugin-filter",
        "hb.logins", "hb.ps", "hb.timeline",
    ]  # fmt: skip
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environment)
    assert "toor" in done.stdout and "process started" in done.stdout
    names = [line.split("|") for line in (tmp_path / "volatility.body").read_text().splitlines()]
    born = {fields[1]: int(fields[10]) for fields in names}
    started = [row["START"] for row in ask(people_session, "ps")]
    ours = [born[name] for name in born if name.startswith("Ps - process started: ")]
    assert sorted(ours) == sorted(map(int, started))
    (typed,) = (
        name for name in born if name.startswith("Timeline - command typed: wget http://203.0.113.9/x")
    )
    assert born[typed] == 1795500000
    (login,) = (name for name in born if name.startswith("Logins - login: ") and "USER=toor" in name)
    assert born[login] == 1795391880
