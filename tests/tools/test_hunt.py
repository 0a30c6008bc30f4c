"""What attackers leave in processes, on guests that were attacked in user space: each attack is found by a
row that names it, and what looks like it and is harmless gives none."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blank_page import blank_copy, process_page
from generations import Lab
from hunting import CLEAN, GENERATIONS, KERNELS, ask, hunted

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.forked_workers import Duties, in_order
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.physical_memory import yara_rules
from samples.hunt_guest import IMPLANT, TYPED
from samples.make import Sample

ROOT = Path(__file__).resolve().parents[2]
WAITING = "b8220000000f05ebf7"
"""samples/guest/attacks.c, `waiting_code`."""
FOUND = {
    (None, "preloaded"), ("preloaded", "preloaded"), ("preloaded", "stack,writable"),
    ("memfd", "memfd"), ("deleted", "deleted"), ("fromtmp", "temporary"), ("patched", "modified"),
    ("wxpage", "anonymous,writable"), ("sharedx", "anonymous"), ("stackx", "stack,writable"),
    ("heapx", "heap"), ("shmlib", "temporary"), ("gonelib", "deleted"), ("injected", "anonymous"),
    ("hollowed", "anonymous"), ("hollowed", "hollowed"), ("vdso", "modified"), ("devzero", "anonymous"),
    ("kworker/0:7", "disguised"), ("dash", "remote shell"),
}  # fmt: skip
"""COMM and KIND of the rows of `malfind`."""


@pytest.fixture(scope="module", params=GENERATIONS)
def generation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sample(generation: str, lab: Lab) -> Sample:
    return hunted(lab, generation)


@pytest.fixture(scope="module")
def session(sample: Sample, lab: Lab) -> Iterator[Session]:
    with open_session(sample.dump, lab.store.root) as session:
        yield session


def test_each_piece_of_foreign_code_is_named_and_nothing_else(session: Session, generation: str) -> None:
    rows = ask(session, "malfind", disassemble=True)
    in_vdso = set() if generation == "7.x" else {("vdso", "modified")}  # Debian's 7.x lets nobody write there
    assert {(row["COMM"], row["KIND"]) for row in rows} == FOUND - {("vdso", "modified")} | in_vdso
    by_kind = {(row["COMM"], row["KIND"]): row for row in rows}
    for name, kind in (("injected", "anonymous"), ("wxpage", "anonymous,writable"), ("sharedx", "anonymous"),
                       ("heapx", "heap"), ("hollowed", "anonymous")):  # fmt: skip
        row = by_kind[name, kind]
        assert row["BYTES"].startswith(WAITING)
        assert row["CODE"].startswith(f"mov eax, 0x22; syscall; jmp {row['AT']:#x}")
    assert by_kind["patched", "modified"]["BYTES"] == "e90badc0de"
    assert "5 bytes in 1 page differ" in by_kind["patched", "modified"]["WHY"]
    for key in in_vdso:
        assert (by_kind[key]["BYTES"], by_kind[key]["PATH"]) == (WAITING, "[vdso]")
    assert re.search(r"127\.0\.0\.1:\d+ -> 127\.0\.0\.1:4444$", by_kind["dash", "remote shell"]["WHY"])
    assert by_kind["memfd", "memfd"]["PATH"] == "/memfd:implant (deleted)"
    assert by_kind["preloaded", "preloaded"]["PATH"] == by_kind[None, "preloaded"]["PATH"] == IMPLANT
    assert by_kind["preloaded", "preloaded"]["START"]
    # the preloaded library does not say that it needs no executable stack: glibc made it so


def test_a_page_of_code_that_is_zeros_in_the_image_is_not_called_changed(
    session: Session, lab: Lab, tmp_path: Path
) -> None:
    (row,) = (row for row in ask(session, "malfind") if row["COMM"] == "patched")
    page = process_page(session, row["PID"], row["AT"])
    copy = blank_copy(session, [page], tmp_path / "blank.raw")
    with open_session(copy, lab.store.root) as other:
        (found,) = ask(other, "malfind", pid=[row["PID"]])
    copy.unlink()
    assert (found["KIND"], found["START"], found["AT"]) == ("unreadable", row["START"], None)
    assert "zeros in the image" in found["WHY"]


def test_the_table_of_attacks_on_processes_has_each_row() -> None:
    table = (ROOT / "docs" / "attacks.md").read_text().split("## Attacks on processes")[1]
    for process, kind in FOUND:
        (line,) = re.findall(rf"^\| {f'`{process}`' if process else 'none'} .*", table, re.MULTILINE)
        assert f"`{kind}`" in line


def test_a_process_below_a_mount_is_named(session: Session) -> None:
    (row,) = ask(session, "hidden")
    assert (row["KIND"], row["NAME"], row["SEEN"]) == ("process", "kworker/0:7", "/proc listing")
    assert row["MISSING"] == f"/proc/{row['WHAT']}: tmpfs is mounted there"


def test_what_programs_run_for_their_configuration_is_listed(session: Session) -> None:
    rows = {(row["KIND"], row["WHEN"], row["RUNS"], row["FILE"]) for row in ask(session, "persistence")}
    program = "/dev/shm/.x"
    assert rows >= {
        ("ssh client", "when ssh connects: ProxyCommand", program, "/etc/ssh/ssh_config"),
        ("ssh client", "when ssh connects: LocalCommand", program, "/root/.ssh/config"),
        ("environment", "each login by ssh", f"LD_PRELOAD={program}", "/root/.ssh/environment"),
        ("environment", "each unit", f"DefaultEnvironment=LD_PRELOAD={program}", "/etc/systemd/system.conf"),
        ("git", "when git works: fsmonitor", program, "/root/.gitconfig"),
        ("git", "when git works: st", f"!{program}", "/root/.gitconfig"),
        ("incron", "when a file changes: /etc/passwd IN_MODIFY", program, "/etc/incron.d/x"),
        ("power", "by acpid", program, "/etc/acpi/events/x"),
        ("network", "by ifupdown: post-up", program, "/etc/network/interfaces"),
        ("polkit", "when rights are asked for", f"['{program}']); }});", "/etc/polkit-1/rules.d/00-x.rules"),
        ("python", "when Python starts", f"import os; os.system('{program}')",
         "/usr/lib/python3/dist-packages/x.pth"),
        ("python", "when Python starts", *("/usr/lib/python3/dist-packages/sitecustomize.py",) * 2),
        ("logrotate", "when logs are rotated: postrotate", program, "/etc/logrotate.d/x"),
        ("package manager", "DPkg::Post-Invoke", program, "/etc/apt/apt.conf"),
        ("package manager", "by needrestart", *("/etc/needrestart/hook.d/x",) * 2),
    }  # fmt: skip


@pytest.mark.parametrize("name", GENERATIONS)
def test_clean_guests_give_no_row(lab: Lab, name: str) -> None:
    """Of the samples with a workload, only what it has on purpose (samples/workload.py)."""
    kinds = {(row["KIND"], row["PATH"]) for row in ask(lab.session(name), "malfind")}
    expected = {
        ("memfd", "/memfd:payload (deleted)"),
        ("disguised", "/memfd:payload (deleted)"),
        ("deleted,temporary", "/tmp/.update (deleted)"),
        ("deleted,temporary", "/dev/shm/miner (deleted)"),
    }
    assert kinds == (set() if name == "7.x" else expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(KERNELS))
def test_the_same_guest_without_the_attacks_gives_no_row(lab: Lab, name: str) -> None:
    with open_session(hunted(lab, name, CLEAN).dump, lab.store.root) as session:
        assert ask(session, "malfind") == []


def test_what_was_typed_at_shells_is_what_they_print(session: Session, sample: Sample) -> None:
    rows = ask(session, "bash")
    assert {row["HOW"] for row in rows} == {"exact"}
    shells: dict[int, list[dict[str, object]]] = {}
    for row in rows:
        shells.setdefault(row["PID"], []).append(row)
    by_last = {str(lines[-1]["LINE"]): lines for lines in shells.values()}
    for name in ("root", "short"):
        printed = sample.truth.command(f"cat /run/history-{name}").splitlines()
        said = [re.fullmatch(r" *(\d+)  (\d+) (.*)", line).groups() for line in printed]  # type: ignore[union-attr]
        lines = by_last[f"history > /run/history-{name}"]
        assert [(str(row["NUMBER"]), str(row["TIME"]), row["LINE"]) for row in lines] == said
    assert by_last["history > /run/history-short"][0]["NUMBER"] == 3  # HISTSIZE=3
    calculator = by_last[TYPED["bc"][-1]]
    assert [row["LINE"] for row in calculator] == TYPED["bc"]
    assert {row["COMM"] for row in rows} == {"bash", "bc"}


def test_lines_that_are_in_no_list_are_found_by_scanning_and_marked(session: Session) -> None:
    rows = ask(session, "bash", scan=True)
    scanned = {(row["COMM"], row["LINE"]) for row in rows if row["HOW"] == "scanned"}
    assert ("bash", "while :; do sleep 1000000; done") in scanned
    exact = {row["LINE"] for row in rows if row["HOW"] == "exact"}
    assert exact == {row["LINE"] for row in ask(session, "bash")}
    assert not {line for _name, line in scanned} & exact


def test_a_breakpoint_of_the_kernels_own_uprobes_is_named_as_such(lab: Lab) -> None:
    """samples/guest/bpf_programs.c traces a place in dash, which the first process runs."""
    (row,) = ask(lab.session("6.1 filters"), "malfind")
    assert (row["COMM"], row["KIND"], row["BYTES"]) == ("init", "uprobe", "cc")
    assert row["WHY"].startswith("put there by the kernel's uprobes: 1 breakpoints (int3) in 1 page")


RULES = """
rule implant { strings: $code = { b8 22 00 00 00 0f 05 eb f7 } condition: $code }
rule library { strings: $name = "GNU C Library (Debian GLIBC" condition: $name }
rule kept { strings: $token = "token-of-the-spy" $pipe = "left in a pipe" condition: any of them }
"""


def test_yara_searches_each_page_once_and_names_all_its_owners(
    session: Session, sample: Sample, tmp_path: Path
) -> None:
    (tmp_path / "rules.yar").write_text(RULES)
    rows = ask(session, "yara", rules=str(tmp_path / "rules.yar"), scope=("all",))
    assert len({(row["PADDR"], row["PATTERN"]) for row in rows}) == len(rows)
    with open(sample.dump, "rb") as image:
        for row in rows:
            image.seek(row["OFFSET"])
            data = image.read(row["SIZE"])
            assert row["CONTENT"] in (data.hex(), data.decode("ascii", "replace"))
    places = {(row["COMM"], row["PATH"]) for row in rows if row["RULE"] == "implant"}
    assert {("injected", ""), ("hollowed", ""), ("heapx", "[heap]"), ("sharedx", "/dev/zero (deleted)"),
            ("memfd", "/memfd:implant (deleted)"), (None, "/dev/shm/libimplant.so")} <= {
        (name, path or "") for name, path in places
    }  # fmt: skip
    library = next(row for row in rows if row["RULE"] == "library")
    assert library["PATH"].endswith("/libc.so.6") and "/bash at 0x" in library["ALSO"]
    kept = {(row["PATTERN"], row["KIND"]) for row in rows if row["RULE"] == "kept"}
    assert {("$token", "slab"), ("$pipe", "kernel")} <= kept  # a key's payload, and a pipe's buffer
    found = ask(session, "yara", rules=str(tmp_path / "rules.yar"))
    assert {row["KIND"] for row in found} == {"process"}
    owners = ask(session, "owner", address=",".join(f"{row['PADDR']:#x}" for row in rows))
    for row in rows:
        mine = [owner for owner in owners if owner["PADDR"] == row["PADDR"]]
        assert {owner["KIND"] for owner in mine} in ({row["KIND"]}, {"process"})
        if row["KIND"] == "process":
            assert (row["PID"], row["AT"]) in {(owner["PID"], owner["AT"]) for owner in mine}
        if row["KIND"] == "file" and not row["ALSO"]:
            assert [(owner["PATH"], owner["AT"]) for owner in mine] == [(row["PATH"], row["AT"])]


def test_an_interrupted_search_goes_on_where_it_was(session: Session, tmp_path: Path) -> None:
    rules, file = tmp_path / "rules.yar", tmp_path / "search"
    rules.write_text(RULES)
    options: dict[str, Any] = {"rules": str(rules), "scope": ("all",), "jobs": 1}
    whole = ask(session, "yara", **options)
    assert ask(session, "yara", **options, resume=str(file)) == whole
    data = file.read_bytes()
    head, *batches = data.splitlines(keepends=True)
    assert len(batches) > 2 and b'"implant"' in batches[0]
    # of the first batch the file is believed, the others are searched
    file.write_bytes(head + batches[0].replace(b'"implant"', b'"noted"') + batches[1][:-1])
    rows = ask(session, "yara", **options | {"jobs": 2}, resume=str(file))
    assert "noted" in {row["RULE"] for row in rows}
    assert [row | {"RULE": row["RULE"].replace("noted", "implant")} for row in rows] == whole
    assert file.read_bytes().splitlines()[2:] == data.splitlines()[2:]
    rules.write_text(f"{RULES} rule another {{ condition: false }}")
    with pytest.raises(OptionError, match="of another search"):
        ask(session, "yara", **options, resume=str(file))
    with pytest.raises(OptionError, match="--jobs 0"):
        ask(session, "yara", **options | {"jobs": 0})


def test_rules_without_an_end_are_given_up_in_forked_workers_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the process that forks them has searched before: the library counts time in a thread of the
    process that searched first."""
    monkeypatch.setattr(yara_rules, "SECONDS", 1)
    monkeypatch.setattr(yara_rules, "GRACE", 1)
    (tmp_path / "slow.yar").write_text(
        "rule slow { condition: for all i in (0..1000000000000) : ( i >= 0 ) }"
    )
    rules = yara_rules.YaraRules(str(tmp_path / "slow.yar"))
    given_up = "the rules took more than 1 s"
    assert rules.search(b"searched") == given_up
    duties = Duties(lambda: None, lambda: None, lambda _nothing: None)
    assert list(in_order([b"one", b"two"], rules.search, 1, duties)) == [given_up] * 2


def test_rules_that_cannot_be_used_are_one_line(session: Session, tmp_path: Path) -> None:
    (tmp_path / "bad.yar").write_text("rule {")
    with pytest.raises(OptionError, match=r"bad\.yar: .*expecting identifier"):
        ask(session, "yara", rules=str(tmp_path / "bad.yar"))
    with pytest.raises(OptionError, match="none.yar: No such file"):
        ask(session, "yara", rules=str(tmp_path / "none.yar"))
    with pytest.raises(OptionError, match="--scope disk"):
        ask(session, "yara", rules=str(tmp_path / "bad.yar"), scope=("disk",))


def test_without_the_library_yara_says_how_to_get_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yara_x", None)
    with pytest.raises(OptionError, match="pip install 'hybridbridge-vol"):
        ask(session, "yara", rules="any.yar")


def test_the_owner_of_a_page_is_what_the_kernel_notes_of_it(session: Session) -> None:
    flags = struct.unpack("<4096Q", session.files.read_at("/proc/kpageflags", 8 * 16384, 8 * 4096))
    free = next(number for number, word in enumerate(flags, 16384) if word >> 10 & 1)
    rows = ask(session, "owner", address=f"{free * 4096 + 5},0x7ffffffff000")
    assert [(row["PADDR"], row["KIND"]) for row in rows] == [
        (free * 4096 + 5, "free"), (0x7FFFFFFFF000, rows[1]["KIND"]),
    ]  # fmt: skip
    assert isinstance(rows[1]["FLAGS"], Unavailable)
    (by_offset,) = ask(session, "owner", address=str(free * 4096 + 5), offset=True)
    assert by_offset["PADDR"] == free * 4096 + 5  # a raw image
    with pytest.raises(OptionError, match="not a number"):
        ask(session, "owner", address="here")
