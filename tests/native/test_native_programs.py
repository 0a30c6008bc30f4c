"""Debian's own programs on an image print what they printed in the guest."""

from __future__ import annotations

import errno
import re
import shlex
import time
from pathlib import Path

import pytest
from generations import GENERATIONS, Lab
from native_runs import Run, hb_exec
from native_truth import EXACT, REDUCED, differences

import hybridbridge_vol
from hybridbridge_vol.errors import OptionError, TimedOut

IMAGE = "6.12"
QUICK = (
    "uname -a", "hostname", "lsmod", "ps aux", "ip addr", "ip route show table all", "arp -an", "mount",
    "df -a", "netstat -tulpan", "dmesg", "free", "uptime -s", "ipcs -a", "route -n",
)  # fmt: skip


@pytest.mark.parametrize("command", QUICK)
def test_a_native_tool_prints_what_it_printed_in_the_guest(lab: Lab, run: Run, command: str) -> None:
    done = run(IMAGE, command)
    assert done.status == 0 and not done.failures, (done.stderr, done.failures)
    ours = done.stdout.decode("utf-8", "surrogateescape")
    assert differences(command, ours, lab.sample(IMAGE).truth.command(command)) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", [*EXACT, *REDUCED])
def test_every_native_tool_prints_what_it_printed_in_the_guest(
    lab: Lab, run: Run, generation: str, command: str
) -> None:
    truth = lab.sample(generation).truth
    if command not in truth.commands:
        assert GENERATIONS[generation].light
        pytest.skip("this guest was not asked")
    done = run(generation, command)
    assert done.status == 0 and not done.failures, (done.stderr, done.failures)
    ours = done.stdout.decode("utf-8", "surrogateescape")
    assert differences(command, ours, truth.command(command)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["ps auxww", "ss -tanp", "lsof -n", "ip -d addr", "find /etc -ls", "top -b -n1"]
)
def test_three_runs_print_the_same(run: Run, generation: str, command: str) -> None:
    assert len({run(generation, command).stdout for _ in range(3)}) == 1


def test_files_are_the_guests(lab: Lab, run: Run) -> None:
    session = lab.session(IMAGE)
    assert run(IMAGE, "cat /etc/passwd").stdout == session.files.read("/etc/passwd")
    listed = run(IMAGE, "ls -a /").stdout.decode().split()
    assert sorted(listed) == sorted([*session.files.listdir("/"), ".", ".."])
    assert run(IMAGE, "stat -c '%s %i %u %a' /etc/hostname").stdout.split() == [
        str(value).encode()
        for seen in [session.files.stat("/etc/hostname")]
        for value in (seen.size, seen.ino, seen.uid, f"{seen.mode & 0o7777:o}")
    ]
    found = run(IMAGE, "find /tmp /run -xdev").stdout.decode().split()
    assert "/tmp" in found and {f"/run/{name}" for name in session.files.listdir("/run")} <= set(found)


def test_a_directory_named_as_a_file_of_a_process_is_one(lab: Lab, run: Run) -> None:
    """`/proc/1/net/stat` was taken for a file as /proc/1/stat is."""
    folder = "/proc/net/stat"
    done = run(IMAGE, "ls /proc/1/net/stat")
    there = list(lab.session(IMAGE).files.listdir(folder))
    assert done.status == 0 and sorted(done.stdout.decode().split()) == sorted(there) and there


_DRIVERS = """
import ctypes, fcntl, socket, struct
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for name, command in ((b"dummy0", 3), (b"veth0", 3), (b"br0", 3), (b"lo", 3), (b"dummy0", 2)):
    request = ctypes.create_string_buffer(struct.pack("<I", command), 196)
    try:
        fcntl.ioctl(asked, 0x8946, struct.pack("<16sQ16x", name, ctypes.addressof(request)))
        print(request.raw[4:36].split(bytes(1))[0].decode())
    except OSError as error:
        print(error.errno)
"""


def test_the_driver_of_an_interface_is_the_guests(run: Run) -> None:
    """As `ethtool -i` asks; lo has none, and nothing is set."""
    done = run(IMAGE, f"/usr/bin/python3 -c {shlex.quote(_DRIVERS)}", tools=None)
    refused = str(errno.EOPNOTSUPP)
    assert done.stdout.decode().split() == ["dummy", "veth", "bridge", refused, refused], done


def test_a_shell_runs_in_the_guests_tree(run: Run) -> None:
    done = run(IMAGE, "dash -c 'cd /proc/1; pwd; echo c[ov]mm; cat comm; ls /proc/self/fd | head -1; exit 7'")
    assert done.stdout.decode().split() == ["/proc/1", "comm", "init", "0"] and done.status == 7


def test_static_programs_and_applets(lab: Lab, run: Run) -> None:
    done = run(IMAGE, "busybox sh -c 'busybox hostname; busybox ps | busybox wc -l; busybox date +%s'")
    name, processes, moment = done.stdout.decode().split()
    assert name == lab.sample(IMAGE).truth.command("hostname").strip()
    assert int(processes) > 40
    assert 0 <= int(moment) - int(lab.sample(IMAGE).truth.times["realtime"]) <= 1


def test_python_sees_the_guest(lab: Lab, run: Run) -> None:
    code = "import os; print(sorted(os.listdir('/')), os.uname().nodename, os.getcwd(), os.getuid())"
    done = run(IMAGE, f'/usr/bin/python3 -c "{code}"', tools=None)
    names = sorted(lab.session(IMAGE).files.listdir("/"))
    host = lab.sample(IMAGE).truth.command("hostname").strip()
    assert done.stdout.decode().strip() == f"{names} {host} / 0", done.stderr


def test_standard_input_reaches_the_program(run: Run) -> None:
    assert run(IMAGE, "sort -r", stdin=b"a\nb\n").stdout == b"b\na\n"


def test_requests_that_change_something_are_refused(run: Run) -> None:
    before = run(IMAGE, "ip addr").stdout
    for command in ("ip link set lo down", "ip addr add 192.0.2.1/8 dev lo", "ip route del default"):
        done = run(IMAGE, command)
        assert done.status == 2 and b"Operation not permitted" in done.stderr, done
    assert run(IMAGE, "ip -s -s link show lo").status == 0  # which tries a change to learn what there is
    assert run(IMAGE, "ip addr").stdout == before
    assert run(IMAGE, "dash -c 'echo x > /tmp/new; kill -9 1; mkdir /tmp/new'").status != 0


def test_windows_on_memory(run: Run) -> None:
    """Files without an end: also as standard input, and by position."""
    whole = run(IMAGE, "dd if=/proc/kcore bs=4096 count=2 status=none").stdout
    assert whole.startswith(b"\x7fELF") and len(whole) == 8192
    assert run(IMAGE, "dash -c 'head -c 4096 < /proc/kcore'").stdout == whole[:4096]
    page = run(IMAGE, "dd if=/proc/kcore bs=4096 skip=1 count=1 status=none").stdout
    assert len(page) == 4096 and page[:256] == whole[4096 : 4096 + 256]  # counters of the reader follow


def test_time_stands_still(lab: Lab, run: Run) -> None:
    done = run(IMAGE, "dash -c 'date +%s%N; sleep 100; date +%s%N; cat /proc/uptime'")
    before, after, uptime, _idle = done.stdout.split()
    assert before == after
    assert float(uptime) == pytest.approx(lab.sample(IMAGE).truth.times["boottime"], abs=0.02)


def test_a_program_that_does_not_end_is_ended(run: Run) -> None:
    with pytest.raises(TimedOut):
        run(IMAGE, "dash -c 'while :; do :; done'", seconds=1.0)


def test_a_program_that_is_not_there_is_named(run: Run) -> None:
    with pytest.raises(OptionError, match="nosuchprogram: No such file"):
        run(IMAGE, "nosuchprogram")


def test_a_process_that_has_asked_for_nothing_is_the_programs(run: Run) -> None:
    code = (
        "import os, signal\npid = os.fork()\nif not pid: signal.pause()\n"
        "os.kill(pid, signal.SIGTERM)\nprint(os.waitpid(pid, 0)[1])"
    )
    done = run(IMAGE, f'/usr/bin/python3 -c "{code}"', tools=None)
    assert (done.stdout, done.stderr, done.status) == (b"15\n", b"", 0)


def test_a_file_that_is_no_program_is_named(run: Run, tmp_path: Path) -> None:
    program = tmp_path / "notes"
    program.write_bytes(b"no program")
    program.chmod(0o755)
    done = run(IMAGE, "notes", tools=str(tmp_path))
    assert (done.status, done.stderr) == (127, b"notes: Exec format error\n")


def test_its_exit_status_and_signal_are_the_commands(lab: Lab) -> None:
    assert hb_exec(lab, IMAGE, "--", "sh", "-c", "exit 5").returncode == 5
    assert hb_exec(lab, IMAGE, "--", "sh", "-c", "kill -TERM $$").returncode == -15
    done = hb_exec(lab, IMAGE, "--", "nosuchprogram")
    assert done.returncode == 1 and done.stderr.count("\n") == 1


def test_pipes_and_options_of_the_program(lab: Lab) -> None:
    script = 'cat; echo "$GREETING"'
    done = hb_exec(lab, IMAGE, "--env", "GREETING=hello", "--", "sh", "-c", script, stdin="text\n")
    assert (done.stdout, done.stderr) == ("text\nhello\n", "")
    done = hb_exec(lab, IMAGE, "--", "sh", "-c", "sleep 9; sleep 9")
    assert re.fullmatch(r"hb: .*: time stands still: .*\n", done.stderr)


def test_namespaces_are_opened_and_asked(lab: Lab, run: Run, generation: str) -> None:
    """Whether anybody had looked at them before the capture or not."""
    truth = lab.sample(generation).truth
    kinds = [path.rpartition("/")[2] for path in truth.links if path.startswith("/proc/1/ns/")]
    assert {"mnt", "net", "pid", "user", "uts"} <= set(kinds)
    for kind in kinds:
        link = truth.links[f"/proc/1/ns/{kind}"].data.decode()
        done = run(generation, f"stat -L -c '{kind.removesuffix('_for_children')}:[%i]' /proc/1/ns/{kind}")
        assert (done.stdout.decode().strip(), done.failures) == (link, {})
    rows = [line.split() for line in run(generation, "lsns -o TYPE,NS,PID").stdout.decode().splitlines()[1:]]
    processes = {int(pid) for _kind, _number, pid in rows}
    assert processes <= set(truth.processes)
    links = {
        link.data.decode() for path, link in truth.links.items() if re.fullmatch(r"/proc/\d+/ns/\w+", path)
    }
    assert {f"{kind}:[{number}]" for kind, number, _pid in rows} == {link for link in links if link}


def test_a_container_from_inside(lab: Lab) -> None:
    """The process with other namespaces than the first one's: its host name, and its processes only."""
    truth = lab.sample(IMAGE).truth
    spaces = {pid: truth.links.get(f"/proc/{pid}/ns/pid") for pid in truth.processes}
    inside = [pid for pid, link in spaces.items() if link and link.data and link != spaces[1]]
    assert inside
    script = "uname -n; ls /proc | grep -c '^[0-9]'"
    done = hb_exec(lab, IMAGE, "--ns-of", str(inside[0]), "--", "sh", "-c", script)
    name, count = done.stdout.split()
    assert name != truth.command("hostname").strip()
    assert 0 < int(count) < 20


def test_programs_run_from_python(lab: Lab) -> None:
    with hybridbridge_vol.open(lab.sample(IMAGE).dump, lab.store.root) as snapshot:
        done = snapshot.exec(
            ["sh", "-c", "cat; uname -n; echo $A; exit 3"], stdin=b"in\n", environment={"A": "b"}
        )
        assert done.status == 3 and done.stderr == b""
        assert done.stdout.split() == [
            b"in",
            lab.sample(IMAGE).truth.command("hostname").strip().encode(),
            b"b",
        ]
        assert [row.pid for row in snapshot.ps()]  # the session goes on


def test_the_program_ends_with_its_supervisor(lab: Lab) -> None:
    """What it has left running in the background ends, too."""
    done = hb_exec(lab, IMAGE, "--", "sh", "-c", "sh -c 'while :; do :; done' >&- 2>&- & echo $!")
    left, end = Path(f"/proc/{int(done.stdout)}"), time.monotonic() + 30
    while left.exists():  # until whoever inherits it has waited for it
        assert time.monotonic() < end
        time.sleep(0.1)
