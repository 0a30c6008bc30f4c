"""`--ns-of`: a session sees what a process of the guest saw from inside its namespaces."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from image_editor import Editor

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import AttachError, OptionError
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.units import PAGE_SIZE

Lab = Any
NAME = "6.1 two CPUs"
TASK_WORDS = 1200


def ask(kernel: Any, name: str, **options: Any) -> list[dict[str, Any]]:
    """A tool's rows as dictionaries."""
    tool = tools.load(name)
    chosen = tool.defaults() | options
    names = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(names, row.cells, strict=True)) for row in tool.rows(kernel, chosen)]


def container(lab: Lab, name: str) -> int:
    """The first process of the sample's container, by its pid in the first namespace."""
    truth = lab.sample(name).truth
    return next(pid for pid in truth.processes if len(nspid(truth, pid)) > 1)


def nspid(truth: Any, pid: int) -> list[int]:
    """A process's pids, from the outermost pid namespace inwards."""
    match = re.search(r"^NSpid:\s+(.*)$", truth.file(f"/proc/{pid}/status").decode("latin-1"), re.MULTILINE)
    assert match is not None
    return [int(number) for number in match[1].split()]


@pytest.fixture(scope="module")
def inside(lab: Lab) -> Iterator[Any]:
    """`inside(name)`: a session from inside the container of a sample, opened once."""
    opened: dict[str, Session] = {}

    def session(name: str) -> Session:
        if name not in opened:
            opened[name] = open_session(lab.sample(name).dump, lab.store.root, ns_of=container(lab, name))
        return opened[name]

    yield session
    for each in opened.values():
        each.close()


def test_the_network_is_the_containers_to_the_byte(lab: Lab, rich_generation: str, inside: Any) -> None:
    truth, session = lab.sample(rich_generation).truth, inside(rich_generation)
    # each network namespace was read once, by way of the first process that is in it
    pid = next(match[1] for path in truth.late if (match := re.fullmatch(r"/proc/(\d+)/net/tcp", path)))
    for table in (
        "tcp",
        "tcp6",
        "udp",
        "unix",
        "route",
        "ipv6_route",
        "if_inet6",
        "arp",
        "igmp",
        "fib_trie",
        "packet",
    ):
        assert session.files.read(f"/proc/net/{table}") == truth.file(f"/proc/{pid}/net/{table}")
    assert sorted(session.files.listdir("/sys/class/net")) == ["eth0", "lo"]
    assert {row["IFACE"] for row in ask(session, "netstat", interfaces=True)} == {"eth0", "lo"}
    inner = [row for row in ask(session, "ip") if row["FAMILY"] == "inet" and row["SCOPE"] == "global"]
    assert [(row["IFACE"], row["ADDRESS"]) for row in inner] == [("eth0", "10.9.0.2/24")]
    assert [row["GATEWAY"] for row in ask(session, "ip", route=True) if row["DESTINATION"] == "default"] == [
        "10.9.0.1"
    ]
    assert "eth0" not in lab.session(rich_generation).files.listdir("/sys/class/net")


def test_processes_names_and_mounts_are_the_containers(lab: Lab, rich_generation: str, inside: Any) -> None:
    truth, pid = lab.sample(rich_generation).truth, container(lab, rich_generation)
    session = inside(rich_generation)
    assert [row["PID"] for row in ask(session, "ps")] == sorted(
        nspid(truth, other)[1] for other in truth.processes if len(nspid(truth, other)) > 1
    )
    assert ask(session, "hostname")[0]["HOSTNAME"] == "web-container"
    assert session.files.readlink("/proc/self") == str(nspid(truth, pid)[1])
    assert session.files.read("/proc/mounts") == truth.file(f"/proc/{pid}/mounts")


def test_every_bridge_sees_the_same_without_unattributed_accesses(lab: Lab) -> None:
    pid = container(lab, NAME)
    with open_session(lab.sample(NAME).dump, lab.store.root, mode=Mode.SLOW, ns_of=pid) as slow:
        rows = ask(slow, "ps")
        routes = slow.files.read("/proc/net/route")
        assert slow.statistics.unattributed == {}
        assert slow.statistics.unknown_instructions == {}
    with open_session(lab.sample(NAME).dump, lab.store.root, mode=Mode.FAST, ns_of=pid) as fast:
        assert ask(fast, "ps") == rows
        assert fast.files.read("/proc/net/route") == routes


def test_the_first_processs_namespaces_are_the_default(lab: Lab) -> None:
    with open_session(lab.sample(NAME).dump, lab.store.root, ns_of=1) as session:
        for path in ("/proc/net/tcp", "/proc/mounts", "/proc/1/status"):
            assert session.files.read(path) == lab.session(NAME).files.read(path)
        assert ask(session, "ps") == ask(lab.session(NAME), "ps")


def test_a_failed_call_leaves_the_session_inside(lab: Lab, inside: Any) -> None:
    session = inside(NAME)
    session.caller.roll_back()
    assert ask(session, "hostname")[0]["HOSTNAME"] == "web-container"
    assert session.files.readlink("/proc/self") == str(nspid(lab.sample(NAME).truth, container(lab, NAME))[1])


@pytest.mark.parametrize("pid", [0, -1, 4_000_000, 1 << 40])
def test_a_process_that_does_not_exist_is_reported(lab: Lab, pid: int) -> None:
    with pytest.raises(OptionError, match=f"--ns-of {pid}: no such process in the image"):
        open_session(lab.sample(NAME).dump, lab.store.root, ns_of=pid)


def test_a_zombie_has_left_its_namespaces(lab: Lab) -> None:
    zombie = next(row["PID"] for row in ask(lab.session(NAME), "ps") if str(row["STAT"]).startswith("Z"))
    with pytest.raises(OptionError, match=f"--ns-of {zombie}: the process has ended"):
        open_session(lab.sample(NAME).dump, lab.store.root, ns_of=zombie)


def test_the_command_line_reports_it_in_one_line(lab: Lab) -> None:
    dump = str(lab.sample(NAME).dump)
    command = [
        sys.executable,
        "-m",
        "hybridbridge_vol",
        "run",
        dump,
        "ps",
        "--store",
        str(lab.store.root),
        "--ns-of",
    ]
    done = subprocess.run([*command, "4000000"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"hb: {dump}: --ns-of 4000000: no such process in the image\n"
    done = subprocess.run([*command, str(container(lab, NAME))], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "sleep" in done.stdout


def test_pages_that_fast_bridge_is_not_given_are_read(lab: Lab, tmp_path: Path) -> None:
    """A word beside them looks like an address of the trusted side: it is not followed, and all else is as
    it was."""
    pid = container(lab, NAME)
    editor = Editor(lab.session(NAME))
    bridge = editor.bridge
    nsproxy = editor.call("find_task_by_vpid", pid) + bridge.prepared.proxy_task.task_nsproxy
    place = bridge.layout.translate(bridge.image, editor.read(nsproxy))
    assert place is not None
    per_cpu = bridge.layout.text_paddr + bridge.sides.per_cpu_offsets - bridge.layout.text_vaddr
    trusted = bridge.home("linux_banner") + 1
    for paddr in (place.paddr, per_cpu):
        page = paddr & -PAGE_SIZE
        data = bridge.image.read_padded(page, PAGE_SIZE)
        free = next(at for at in range(0, PAGE_SIZE, 8) if not any(data[at : at + 8]) and at != paddr - page)
        editor.words[bridge.image.offset_of(page) + free] = trusted
    image = tmp_path / "withheld.raw"
    editor.save(lab.sample(NAME).dump, image)
    with open_session(image, lab.store.root, ns_of=pid) as session:
        assert ask(session, "hostname")[0]["HOSTNAME"] == "web-container"
    with open_session(image, lab.store.root) as session:
        expected = [(one.cpu, one.tid) for one in lab.session(NAME).cpus.running()]
        assert [(one.cpu, one.tid) for one in session.cpus.running()] == expected


@pytest.mark.parametrize("where", ["trusted", "user", "nowhere"])
def test_a_pointer_that_leads_out_of_the_image_is_not_followed(lab: Lab, tmp_path: Path, where: str) -> None:
    pid = container(lab, NAME)
    with open_session(lab.sample(NAME).dump, lab.store.root) as session:
        bridge = session.bridge
        task = session.caller.call(bridge.snapshot("find_task_by_vpid"), pid) & ((1 << 64) - 1)
        place = bridge.layout.translate(bridge.image, task + bridge.prepared.proxy_task.task_nsproxy)
        assert place is not None
        offset = bridge.image.offset_of(place.paddr)
        assert offset is not None
        word = {
            "trusted": bridge.prepared.proxy_task.task,
            "user": 0x7FFF_0000,
            "nowhere": 0xFFFF_C9FF_FFFF_0000,
        }[where]
    forged = tmp_path / "forged.raw"
    subprocess.run(["cp", "--sparse=always", lab.sample(NAME).dump, forged], check=True)
    with open(forged, "r+b") as stream:
        stream.seek(offset)
        stream.write(word.to_bytes(8, "little"))
    with pytest.raises(
        AttachError, match="not in the image" if where == "nowhere" else "leads out of the image"
    ):
        open_session(forged, lab.store.root, ns_of=pid)
    with open_session(forged, lab.store.root) as session:
        rows = {row["PID"]: row for row in ask(session, "ps")}
        assert rows[pid]["COMM"] == "sleep" or isinstance(rows[pid]["COMM"], Unavailable)
