"""Programs in an emulator print, to the byte, what they print natively; what cannot run there says so."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest
from generations import Lab
from hostile_programs import attempts
from native_runs import Run, hb_exec
from vector_programs import vector_programs

import hybridbridge_vol
from hybridbridge_vol.errors import TimedOut
from hybridbridge_vol.native.run import EMULATED

IMAGE = "6.12"
ALONE = "starts another program or thread: an emulated program is alone"
QUICK = (
    "busybox ps", "ps aux", "uname -a", "ip addr", "ss -tan", "netstat -tan", "cat /etc/passwd", "ls -l /",
    "find /etc", "dmesg", "free", "df", "readlink /proc/self/exe", "cat /nosuch",
    "dash -c 'echo c[ov]mm /proc/1/c*; cd /proc/1; pwd; read a < comm; echo $a; exit 7'",
)  # fmt: skip
SLOW = (
    "lsmod", "mount", "uptime -s", "hostname", "top -b -n1", "lsns", "ipcs -a", "nft list ruleset", "ps -eLf",
    "ip -d route show table all", "ss -tuanp", "netstat -tulpan", "vmstat -s", "iostat", "stat /etc/passwd",
    "ls -lR /etc /proc/1", "sha256sum /usr/bin/dash", "head -c 100000 /proc/kallsyms", "sort /proc/modules",
    "bash -c 'for i in 1 2 3; do echo $((i * i)); done; printf %.3f\\\\n 1.5'", "lscpu --version",
    "busybox awk '{print $1 * 1.5}' /proc/uptime", "busybox top -b -n1", "busybox find /run",
)  # fmt: skip


def held_to_native(run: Run, command: str, tools: str | None = "", stdin: bytes = b"") -> None:
    emulated, native = (
        run(IMAGE, command, stdin, tools=tools, user_mode=mode) for mode in (EMULATED, "native")
    )
    assert emulated == native


@pytest.mark.parametrize("command", QUICK)
def test_a_program_prints_what_it_prints_natively(run: Run, command: str) -> None:
    held_to_native(run, command)


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW)
def test_more_programs_print_what_they_print_natively(run: Run, command: str) -> None:
    held_to_native(run, command)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ps aux", "ip addr", "ss -tan", "busybox ps", "mount"])
def test_programs_print_the_same_on_every_generation(run: Run, generation: str, command: str) -> None:
    assert run(generation, command, user_mode=EMULATED) == run(generation, command)


@pytest.mark.slow
def test_python_runs(run: Run) -> None:
    code = (
        "import hashlib, json, os, selectors, zlib; print(sorted(os.listdir('/')), os.uname(), 2 ** 0.5, "
        "hashlib.sha256(b'x').hexdigest(), zlib.crc32(b'x'), json.dumps({'a': 1.5}), os.getuid())"
    )
    held_to_native(run, f'/usr/bin/python3 -c "{code}"', tools=None)


def test_standard_input_and_status(run: Run) -> None:
    held_to_native(run, "dash -c 'read a; read b; echo $b $a; exit 5'", stdin=b"one\ntwo\n")
    held_to_native(run, "cat", stdin=bytes(range(256)) * 5000)
    held_to_native(run, "dash -c 'kill -TERM $$'")


def test_what_is_its_own_is_the_emulated_programs(run: Run) -> None:
    """Nothing of the process that runs the emulator shows."""
    maps = run(IMAGE, "cat /proc/self/maps", user_mode=EMULATED).stdout.decode()
    assert "[heap]" in maps and "[stack]" in maps and "python" not in maps and ".so" not in maps
    listed = run(IMAGE, "ls /proc/self/fd /proc/self/fdinfo", user_mode=EMULATED)
    assert listed == run(IMAGE, "ls /proc/self/fd /proc/self/fdinfo")
    assert run(IMAGE, "dash -c 'ulimit -n; ulimit -s'", user_mode=EMULATED).stdout.split()[1] == b"8192"


def test_there_is_no_way_out(run: Run, hostile: Path) -> None:
    secret = hostile.parents[1] / "secret"
    before = set(hostile.parents[1].rglob("*")), secret.read_text()
    done = run(IMAGE, f"hostile escape {secret}", tools=str(hostile.parent), user_mode=EMULATED)
    tried = attempts(done.stdout)
    assert done.status == 0, (done.status, done.stderr)
    native = attempts(run(IMAGE, f"hostile escape {secret}", tools=str(hostile.parent)).stdout)
    alone = {"exec secret", "race"}
    assert {name: tried[name] for name in native.keys() - alone} == {
        name: native[name] for name in native.keys() - alone
    }
    assert {tried[name] for name in alone} == {(-1, errno.ENOSYS)}
    assert done.failures == {"execve": ALONE, "clone": ALONE}
    assert (set(hostile.parents[1].rglob("*")), secret.read_text()) == before
    assert not Path("/tmp/escaped").exists()


def test_a_fault_ends_it_as_a_kernel_would(run: Run, hostile: Path) -> None:
    done = run(IMAGE, "hostile fault -", tools=str(hostile.parent), user_mode=EMULATED)
    assert (done.status, done.stdout, done.stderr) == (-11, b"", b"")


def test_a_program_that_asks_for_avx_runs_without_it(run: Run, tmp_path: Path) -> None:
    done = run(IMAGE, "asks 1 2 3 40", tools=str(vector_programs(tmp_path)), user_mode=EMULATED)
    assert (done.status, done.stdout, done.stderr, done.failures) == (0, b"begins\n1568.0\n", b"", {})


def test_a_program_that_uses_avx_anyway_ends_with_one_line(lab: Lab, run: Run, tmp_path: Path) -> None:
    """Without it, the program ended well, with a wrong sum."""
    tools = str(vector_programs(tmp_path))
    done = run(IMAGE, "does 1 2 3 40", tools=tools, user_mode=EMULATED)
    assert done.status == -signal.SIGILL and b"." not in done.stdout
    assert len(done.failures) == 1 and "without AVX" in next(iter(done.failures.values()))
    shown = hb_exec(lab, IMAGE, "--user-mode", "emulated", "--tools", tools, "--", "does", "1")
    said = shown.stderr.splitlines()
    assert shown.returncode == -signal.SIGILL and len(said) == 1 and "without AVX" in said[0], said


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_no_argument_of_a_system_call_is_more_than_an_error(run: Run, hostile: Path, seed: int) -> None:
    done = run(IMAGE, f"hostile fuzz {seed}", tools=str(hostile.parent), user_mode=EMULATED)
    assert (done.status, attempts(done.stdout)) == (0, {"fuzz": (1000, 0)}), done
    assert set(done.failures.values()) <= {ALONE, "a system call that is not emulated"}


def test_a_program_that_does_not_end_is_ended(run: Run) -> None:
    with pytest.raises(TimedOut):
        run(IMAGE, "dash -c 'while :; do :; done'", seconds=1.0, user_mode=EMULATED)


def test_what_cannot_run_is_one_line(lab: Lab) -> None:
    done = hb_exec(lab, IMAGE, "--user-mode", "emulated", "--", "sh", "-c", "echo first; uname | cat")
    assert done.stdout == "first\n" and done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("hb: ")]
    assert len(said) == 1 and said[0].endswith(ALONE)


def test_a_handler_that_an_alarm_would_run_is_named(run: Run) -> None:
    code = "import signal\nsignal.signal(14, print)\nsignal.alarm(1)\nsignal.pause()"
    done = run(IMAGE, f'/usr/bin/python3 -c "{code}"', tools=None, user_mode=EMULATED)
    assert done.status == -14 and set(done.failures) == {"signal 14"}


def test_emulated_programs_run_from_python(lab: Lab) -> None:
    with hybridbridge_vol.open(lab.sample(IMAGE).dump, lab.store.root) as snapshot:
        done = snapshot.exec(["uname", "-n"], user_mode="emulated")
        assert done.stdout.decode() == lab.sample(IMAGE).truth.command("hostname")
        assert (done.status, done.stderr, done.failures) == (0, b"", {})
