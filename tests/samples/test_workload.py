"""What runs in a sample guest: drawn from a seed, and of every kind that tools are to be held to."""

from __future__ import annotations

import ast
import getopt
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samples import guest_files
from samples.compiler import sources
from samples.guest_files import GUEST
from samples.plan import IN_CONTAINER, RENEWAL, TOOLS_ON_COPY, plan
from samples.workload import ACTOR, ACTORS, SILENT_V4, USERS, renewal, workload

ROOT = Path(__file__).resolve().parents[2]
ACTOR_SOURCE = "".join(path.read_text() for path in sources(GUEST / "actor.c"))
OBSERVER_SOURCE = "".join(path.read_text() for path in sources(GUEST / "observer.c"))
SEEDS = range(12)


@dataclass(frozen=True)
class Started:
    """One process that the script starts: `role` is the actor's, "" for a program of Debian's."""

    uid: int
    options: dict[str, str]
    environment: list[str] | None
    program: str
    role: str
    arguments: list[str]


def commands(script: str) -> Iterator[list[str]]:
    """The script's commands as lists of words; one may have a line feed within quotes."""
    pending = ""
    for line in script.splitlines():
        pending += line
        try:
            yield shlex.split(pending)
            pending = ""
        except ValueError:
            pending += "\n"
    assert pending == ""


@cache
def started(script: str) -> tuple[Started, ...]:
    """The processes that a script starts, those of its container too."""
    found: list[Started] = []
    for words in commands(script):
        environment = None
        if words[0] == "env":
            place = words.index(f"/{ACTOR}")
            environment, words = words[2:place], words[place:]
        if words[:2] != [f"/{ACTOR}", "run"]:
            continue
        given, rest = getopt.getopt(words[2:], "ru:n:a:d:t:")
        options = dict(given)
        is_role = "-r" in options
        found.append(
            Started(
                int(options.get("-u", 0)), options, environment, rest[0],
                rest[1] if is_role else "", rest[2:] if is_role else rest[1:],
            )
        )  # fmt: skip
        if "-c" in rest:
            found += started(rest[-1].replace("; ", "\n"))
    return tuple(found)


def of_role(script: str, role: str) -> list[Started]:
    """The processes in one role."""
    return [process for process in started(script) if process.role == role]


def is_served(script: str, kind: str, host: str) -> bool:
    """Whether somebody listens there, and somebody else has connected."""
    servers = {tuple(process.arguments[:3]) for process in of_role(script, "server")}
    clients = {tuple(process.arguments[:3]) for process in of_role(script, "client")}
    return any(server in clients for server in servers if server[:2] == (kind, host))


def has_deleted_executable(script: str) -> bool:
    """A program is copied, started and removed."""
    lines = script.splitlines()
    copies = re.findall(r"^cp \S+ (\S+)$", script, re.MULTILINE)
    return any(
        lines.index(f"rm {path}")
        > min(i for i, line in enumerate(lines) if f" {path} " in line and "run" in line)
        for path in copies
    )


def writes_to_a_tmpfs(script: str) -> bool:
    """A tmpfs is mounted, and files are made in it."""
    mounted = re.search(r"^mount -t tmpfs .* (\S+)$", script, re.MULTILINE)
    return mounted is not None and f"> '{mounted[1]}/" in script.partition(mounted[0])[2]


KINDS: dict[str, Callable[[str], bool]] = {
    "several users": lambda script: len({process.uid for process in started(script)}) >= 6,
    "threads": lambda script: any(int(process.arguments[0]) > 1 for process in of_role(script, "threads")),
    "a zombie": lambda script: bool(of_role(script, "zombie")),
    "a stopped process": lambda script: bool(of_role(script, "stopped")),
    "a traced process": lambda script: bool(of_role(script, "traced")),
    "one that waits uninterruptibly": lambda script: bool(of_role(script, "waiting")),
    "a deleted executable": has_deleted_executable,
    "an executable that never was a file": lambda script: bool(of_role(script, "memfd")),
    "one that poses as a kernel thread": lambda script: any(
        process.arguments[0].startswith("[kworker/") for process in of_role(script, "memfd")
    ),
    "a command line longer than a page": lambda script: any(
        len(" ".join(process.arguments)) > 4096 for process in started(script)
    ),
    "control characters in a command line": lambda script: any(
        {"\t", "\n"} <= set("".join(process.arguments)) for process in started(script)
    ),
    "a long environment": lambda script: any(
        len(process.environment or ()) > 50 for process in started(script)
    ),
    "an empty environment": lambda script: any(process.environment == [] for process in started(script)),
    "niceness": lambda script: any("-n" in process.options for process in started(script)),
    "a terminal": lambda script: any("-t" in process.options for process in started(script)),
    "TCP over IPv4": lambda script: is_served(script, "stream", "127.0.0.1"),
    "TCP over IPv6": lambda script: is_served(script, "stream", "::1"),
    "UDP over IPv4": lambda script: any(
        process.arguments[:2] == ["dgram", "127.0.0.1"] for process in of_role(script, "server")
    ),
    "UDP over IPv6": lambda script: any(
        process.arguments[:2] == ["dgram", "::1"] for process in of_role(script, "server")
    ),
    "connections that end": lambda script: bool(of_role(script, "closer") and of_role(script, "leaver")),
    "a connection that nobody answers": lambda script: any(
        process.arguments[0] == SILENT_V4 for process in of_role(script, "caller")
    ),
    "raw sockets": lambda script: bool(of_role(script, "sniffer")),
    "unix sockets with a path": lambda script: is_served(script, "dgram", "/run/log.sock"),
    "unix sockets without one": lambda script: is_served(script, "stream", "@/tmp/.X11-unix/X0"),
    "a tmpfs with files": writes_to_a_tmpfs,
    "locked, mapped and deleted files": lambda script: bool(of_role(script, "files")),
    "System V IPC": lambda script: bool(of_role(script, "ipc")),
    "namespaces": lambda script: any(process.program == "unshare" for process in started(script)),
    "static neighbours over IPv4": lambda script: bool(
        re.search(r"ip neigh replace 192\.0\.2\.\d+ ", script)
    ),
    "static neighbours over IPv6": lambda script: bool(re.search(r"ip neigh replace 2001:db8::", script)),
}
OF_EVERY_SAMPLE = (
    "several users", "threads", "a zombie", "a stopped process", "TCP over IPv4", "TCP over IPv6",
    "UDP over IPv4", "UDP over IPv6", "niceness",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_workload_has(kind: str) -> None:
    assert [seed for seed in SEEDS if not KINDS[kind](workload(seed, light=False))] == []


@pytest.mark.parametrize("kind", OF_EVERY_SAMPLE)
def test_a_light_workload_has(kind: str) -> None:
    assert [seed for seed in SEEDS if not KINDS[kind](workload(seed, light=True))] == []


def test_a_kind_that_is_missing_would_be_noticed() -> None:
    assert [kind for kind, holds in KINDS.items() if holds("sleep 1\n")] == []


def test_a_seed_gives_the_same_workload_in_every_process() -> None:
    program = "from samples.workload import workload; print(ascii(workload(7, False, 5)))"
    scripts = {
        ast.literal_eval(
            subprocess.run(
                [sys.executable, "-c", program],
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed},
                capture_output=True, text=True, check=True,
            ).stdout
        )
        for hash_seed in ("1", "2")
    }  # fmt: skip
    assert scripts == {workload(7, False, 5)}


@pytest.mark.parametrize("light", [True, False])
def test_seeds_differ(light: bool) -> None:
    assert len({workload(seed, light) for seed in SEEDS}) == len(SEEDS)


def test_a_rich_workload_begins_as_the_light_one_and_added_processes_come_last() -> None:
    light, rich, more = workload(3, True), workload(3, False), workload(3, False, 40)
    assert rich.startswith(light)
    assert more.startswith(rich)
    added = started(more)[len(started(rich)) :]
    assert len({tuple(process.arguments) for process in added if process.program == "sleep"}) == 40
    assert 0 not in {process.uid for process in added}


@settings(max_examples=15)
@given(seed=st.integers(), light=st.booleans(), processes=st.integers(0, 5))
def test_the_script_is_one_that_a_shell_accepts(seed: int, light: bool, processes: int) -> None:
    script = workload(seed, light, processes).encode("utf-8", "surrogateescape")
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("light", [True, False])
def test_closed_connections_are_made_when_all_that_takes_long_is_done(light: bool) -> None:
    """The kernel forgets them after a minute, which a slow guest may need for everything else."""
    orders = plan(light).splitlines()
    renewed = orders.index(f"run sh {RENEWAL}")
    assert orders[renewed - 1] == "round"
    assert orders[renewed + 1] == "connections"
    for command in ("netstat -tulpan", "ss -tuanpe"):
        assert orders.index(f"command {command}") > renewed
    assert [order for order in orders[renewed:] if order.startswith("early ")] == []
    assert [order for order in orders[renewed:] if order.startswith("late ")] == ["late /proc/net"]
    assert {f"hold {path}" for path in ("/proc/net/tcp", "/proc/net/tcp6")} <= set(orders)


@pytest.mark.parametrize("light", [True, False])
def test_the_renewal_leaves_no_process_and_wakes_none(light: bool) -> None:
    deaf = {tuple(process.arguments) for process in of_role(workload(1, light), "backlog")}
    processes = started(renewal(1, light))
    assert {process.role for process in processes} == ({"loop"} if light else {"loop", "leaver"})
    for process in processes:
        if process.role == "leaver":
            assert tuple(process.arguments) in deaf


@settings(max_examples=15)
@given(st.integers())
def test_whoever_connects_finds_somebody_who_listens_already(seed: int) -> None:
    listening: set[tuple[str, str, str]] = set()
    for process in started(workload(seed, light=False)):
        if process.role == "server":
            where = (process.arguments[0], process.arguments[1], process.arguments[2])
            assert where not in listening
            listening.add(where)
        elif process.role in ("client", "closer", "leaver") and process.arguments[0] != "dgram":
            kind, host, port = (
                process.arguments if process.role == "client" else ["stream", *process.arguments]
            )[:3]
            anywhere = "::" if ":" in host else "0.0.0.0"
            assert {(kind, host, port), (kind, anywhere, port)} & listening


def roles_of_the_actor() -> dict[str, int]:
    """The roles of guest/actor.c with the number of arguments that each needs."""
    table = ACTOR_SOURCE[ACTOR_SOURCE.index("} roles[]") :].partition("};")[0]
    return {name: int(count) for name, count in re.findall(r'\{ "(\w+)", \w+, (\d+) \}', table)}


def test_the_actor_can_play_every_role() -> None:
    roles = roles_of_the_actor()
    for process in (*started(workload(1, light=False)), *started(renewal(1, light=False))):
        if process.role:
            assert len(process.arguments) >= roles[process.role], process
            assert process.program.lstrip("/") in ACTORS or process.program in {
                name.split("/")[-1] for name in ACTORS
            }


def test_every_program_and_user_is_in_the_guest() -> None:
    programs = re.compile("|".join(f"(?:{pattern})" for pattern in guest_files.recipe(1, False, 0).wanted))
    asked = {process.program for process in started(workload(1, light=False)) if not process.role}
    orders = [line.split() for line in plan(light=False).splitlines()]
    asked |= {words[1] for words in orders if words[0] in ("command", "run")}
    inside = re.findall(r"^\t(\w+)", (GUEST / "tools_on_copy.sh").read_text(), re.MULTILINE)
    asked |= {name for name in inside if name not in ("echo", "done", "case", "esac")}
    asked -= {"/tmp/.update", "/dev/shm/miner", TOOLS_ON_COPY, IN_CONTAINER}
    assert [
        name for name in asked if not any(programs.fullmatch(f"usr/{f}/{name}") for f in ("bin", "sbin"))
    ] == []
    assert {process.uid for process in started(workload(1, light=False))} <= set(USERS.values())


@pytest.mark.parametrize("light", [True, False])
def test_the_observer_understands_every_order_of_the_plan(light: bool) -> None:
    known = set(re.findall(r'strcmp\(line, "([\w-]+)"\)', OBSERVER_SOURCE))
    known |= set(re.findall(r'strcmp\(orders\[i\], "(\w+)"\)', OBSERVER_SOURCE))
    orders = [line.split(" ", 1) for line in plan(light).splitlines()]
    assert {order[0] for order in orders} <= known
    assert orders[-1][0] == "settle"


def test_no_order_is_longer_and_no_rule_list_larger_than_the_observer_takes() -> None:
    found = re.findall(r"#define (MAX_RULES|MAX_PATH|MAX_ORDERS) (\d+)", OBSERVER_SOURCE)
    limits = {name: int(value) for name, value in found}
    lines = plan(light=False).splitlines()
    assert max(map(len, lines)) < limits["MAX_PATH"] - 1
    assert len(lines) <= limits["MAX_ORDERS"]
    for order in ("skip ", "skip-name ", "leader-name "):
        assert sum(line.startswith(order) for line in lines) <= limits["MAX_RULES"]


def test_processes_settle_last_with_what_ps_shows() -> None:
    assert plan(light=True).splitlines()[-1] == "settle comm status stat"
