"""SLOW-BRIDGE, FAST-BRIDGE and the fall-back between them give the same answer."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import capstone
import pytest
from capstone import x86_const
from default_run import in_default_run
from generations import GENERATIONS
from sessions import session_with

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.memo import Memo, Proven
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.cli.main import main
from hybridbridge_vol.errors import CallRolledBack, NotMemoized
from hybridbridge_vol.guest.descriptors import TIDY_AFTER_CLOSES
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.lab.batch.request import PAPER_TOOLS
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.provenance import with_provenance
from hybridbridge_vol.toolkit.tool import Options, Tool
from hybridbridge_vol.workflow.train import SKIPPED

Lab = Any

DRAWN_ANEW = "/proc/sys/kernel/random/uuid"
"""Its content depends on how many random numbers the kernel drew before, also in calls that were repeated."""
ALIKE = ("/sys/", "/proc/sys/", "/proc/irq/")
"""Thousands of files written by the same few functions: a sample of them is read, unless all are wanted."""
PROCESSES = 3
"""Processes whose files are compared in the default run, which also leaves out threads and most of /sys; the
slow run takes all."""


def paths_of(lab: Lab, generation: str, processes: int) -> list[str]:
    """Files of /proc that the guest itself could read, those of a few processes among them."""
    truth = lab.sample(generation).truth
    pids = {str(pid) for pid in sorted(truth.processes)[-processes:]} | {"1", "2"}
    every = [
        path
        for path, reading in truth.late.items()
        if not reading.errno
        and path.rsplit("/", 1)[1] not in SKIPPED
        and path != DRAWN_ANEW
        and (not (pid := path.split("/")[2]).isdigit() or pid in pids)
    ]
    if processes > PROCESSES:
        return every
    alike = [path for path in every if path.startswith(ALIKE)]
    return [path for path in every if not path.startswith(ALIKE) and "/task/" not in path] + alike[::8]


def answers(session: Session, paths: list[str]) -> Iterator[object]:
    """What each file holds, or why it cannot be read."""
    for path in paths:
        try:
            yield session.files.read(path)
        except OSError as error:
            yield error.errno
        except CallRolledBack as error:
            yield error.call


def thinned(memo: Memo, seed: int) -> Memo:
    """A memo without a random part of its ranges."""
    left = Memo(memo.key)
    dice = random.Random(seed)
    left.text.add([piece for piece in memo.text.ranges() if dice.random() < 0.7], memo.text.trusted)
    for name, part in memo.modules.items():
        left.modules[name] = Proven()
        left.modules[name].add([piece for piece in part.ranges() if dice.random() < 0.7], part.trusted)
    return left


@pytest.mark.parametrize("name", in_default_run(GENERATIONS, "7.x"))
def test_slow_fast_and_fall_back_give_the_same_bytes(lab: Lab, name: str) -> None:
    assert_same_bytes(lab, name, PROCESSES)


@pytest.mark.slow
def test_slow_fast_and_fall_back_give_the_same_bytes_for_every_process(lab: Lab, generation: str) -> None:
    assert_same_bytes(lab, generation, 10000)


def assert_same_bytes(lab: Lab, generation: str, processes: int) -> None:
    """Read the same files under taint, from an empty memo, from the full one and from what is left of it."""
    paths = paths_of(lab, generation, processes)
    assert len(paths) > 100
    with session_with(lab, generation, Mode.SLOW) as slow:
        proven = list(answers(slow, paths))
        memo = slow.bridge.memo
        assert slow.statistics.total.traps == 0
        assert slow.statistics.unattributed == {}
        assert slow.statistics.unknown_instructions == {}
    assert sum(isinstance(answer, bytes) for answer in proven) > 0.9 * len(paths)
    with session_with(lab, generation, Mode.AUTO, memo) as fast:
        assert list(answers(fast, paths)) == proven
        rolled_back = fast.statistics.total.rolled_back
        assert fast.statistics.total.traps <= rolled_back  # only what never ends well is never proven
    for seed in range(1 if processes == PROCESSES else 5):
        left = thinned(memo, seed)
        with session_with(lab, generation, Mode.AUTO, left) as hybrid:
            assert list(answers(hybrid, paths)) == proven
            assert hybrid.statistics.total.traps > rolled_back


MOST_LOST = 4
"""Programs of calls that are made one by one instead, of hundreds."""


def shown(tool: Tool, session: Session, options: Options) -> list[tuple[object, int]]:
    """Cells and depths. Where several processes have a file mapped, the worker that comes first asks by its
    own: so sources may differ."""
    return [(row.cells, row.depth) for row in tool.rows(session, options)]


@pytest.mark.parametrize("generation", in_default_run(GENERATIONS, "6.12"))
def test_the_second_run_of_every_tool_of_the_paper_falls_back_nowhere(lab: Lab, generation: str) -> None:
    assert_second_run_falls_back_nowhere(lab, generation, PAPER_TOOLS)


@pytest.mark.slow
def test_the_second_run_of_every_tool_falls_back_nowhere(lab: Lab, generation: str) -> None:
    assert_second_run_falls_back_nowhere(lab, generation, tools.NAMES)


def assert_second_run_falls_back_nowhere(lab: Lab, generation: str, names: Iterable[str]) -> None:
    """Of each tool that needs no argument."""
    memo = None
    for tool in map(tools.load, names):
        if any(option.positional for option in tool.options):
            continue
        options = tool.defaults()
        with session_with(lab, generation, Mode.AUTO, memo) as first:
            rows = shown(tool, first, options)
            assert memo is not None or first.statistics.total.traps > 0
            memo = first.bridge.memo
        with session_with(lab, generation, Mode.FAST, memo) as second:
            try:
                assert shown(tool, second, options) == rows, tool.name
            except NotMemoized:
                # on a starved machine a program of calls may be cut off; nothing has run its calls singly.
                # And of a call that is rolled back nothing is proven
                if not second.statistics.lost_programs and not first.statistics.total.rolled_back:
                    raise
                continue
            total = second.statistics.total
            assert total.memoized == 0 or total.withheld  # what ends under SLOW-BRIDGE is proven again
            # what is asked ahead and then not needed is never learned; a withheld page ends a program
            lost = sum(second.statistics.lost_programs.values())
            assert lost <= MOST_LOST or total.withheld, tool.name


def test_fast_alone_names_the_function_that_has_no_memo(lab: Lab) -> None:
    with (
        pytest.raises(NotMemoized, match=r"no memo for proc_init_fs_context.*--bridge auto"),
        session_with(lab, "6.12", Mode.FAST) as session,
    ):
        session.files.listdir("/proc")


def test_what_was_proven_is_kept_for_the_next_session(lab: Lab) -> None:
    sample = lab.sample("6.12")
    with open_session(sample.dump, lab.store.root) as session:
        session.files.read("/proc/interrupts")
        known = len(session.bridge.memo)
    with open_session(sample.dump, lab.store.root) as session:
        assert len(session.bridge.memo) >= known > 0


def test_what_frees_a_closed_file_is_proven_when_its_code_is_first_met(lab: Lab, generation: str) -> None:
    """The kernel frees closed files later, and a session may have ended by then."""
    with session_with(lab, generation, Mode.AUTO) as session:
        for _ in range(2):  # a second look-up goes another way
            session.files.read("/proc/meminfo")
        memo = session.bridge.memo
    with session_with(lab, generation, Mode.AUTO, memo) as session:
        for _ in range(TIDY_AFTER_CLOSES):
            session.files.read("/proc/meminfo")
        assert session.statistics.by_call["flush_delayed_fput"].calls == 1
        assert session.statistics.trapped_in == []


def test_the_classes_of_static_references_are_learned(lab: Lab, generation: str) -> None:
    with session_with(lab, generation, Mode.SLOW) as session:
        session.files.listdir("/proc")
        trusted = {
            session.bridge.describe(session.bridge.layout.text_vaddr + field)
            for field in session.bridge.memo.text.trusted
        }
    # the inode cache of procfs is the trusted kernel's: fs/proc/inode.c, proc_alloc_inode
    assert any("proc_alloc_inode" in place for place in trusted), trusted


def test_no_proven_code_loads_a_cache_of_the_snapshots_allocator(lab: Lab, generation: str) -> None:
    """Also where the run that proved the code did not use the cache: the next run may, without taint."""
    with session_with(lab, generation, Mode.SLOW) as session:
        list(
            tools.load("ip").rows(
                session, {option.name: option.name == "neigh" for option in tools.load("ip").options}
            )
        )
        session.files.read("/proc/1/maps")
        bridge = session.bridge
        start, caches = bridge.kernel.text_link_vaddr + bridge.home_delta, set(bridge.prepared.caches)
        disassembler, loads = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64), set()
        disassembler.detail = True
        for first, last in bridge.memo.text.ranges():
            for insn in disassembler.disasm(bridge.machine.read(start + first, last - first), start + first):
                memory = (
                    insn.operands[1].mem
                    if insn.mnemonic == "mov" and insn.operands[1].type == x86_const.X86_OP_MEM
                    else None
                )
                if memory is not None and memory.base == x86_const.X86_REG_RIP and insn.operands[0].size == 8:
                    target = insn.address + insn.size + memory.disp
                    if memory.segment == 0 and bridge.machine.read_u64(target) in caches:
                        loads.add(insn.address + insn.disp_offset - start)
        assert loads, "it takes memory from caches"
        assert loads <= set(bridge.memo.text.trusted)


def test_a_row_comes_from_the_bytes_it_names_and_no_other_row_does(lab: Lab, tmp_path: Path) -> None:
    tool = tools.load("ps")
    options = tool.defaults()
    before, states = rows_and_the_bytes_of_their_states(lab, tool, options)
    image = bytearray(lab.sample("6.12").dump.read_bytes())
    changed = {}
    for pid in [pid for pid in sorted(before) if len(states[pid].ranges) == 1][-5:]:
        offset, size = states[pid].ranges[0]
        assert not states[pid].trusted
        assert image[offset : offset + 3] == str(before[pid][12]).encode()[:3]
        changed[pid] = chr(image[offset] ^ 1)
        image[offset] ^= 1
        assert 0 < size <= 64
    path = tmp_path / "edited.raw"
    path.write_bytes(image)
    with open_session(path, lab.store.root) as session:
        after = {row.cells[0]: row.cells for row in tool.rows(session, options)}
    path.unlink()
    assert {pid for pid in before if after[pid] != before[pid]} == set(changed)
    for pid, letter in changed.items():
        assert after[pid][12] == letter + str(before[pid][12])[1:]


def rows_and_the_bytes_of_their_states(
    lab: Lab, tool: Tool, options: dict[str, Any]
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The rows of `ps` by process, and the image's bytes that the first of /proc/PID/stat's came from."""
    with session_with(lab, "6.12", Mode.SLOW) as session:
        traced = list(with_provenance(tool).rows(session, options))
        labels = session.answer_labels
        states = {
            row.cells[0]: labels.of([source for source in row.sources if source.path.endswith("/stat")][:1])
            for row in traced
        }
    return {row.cells[0]: row.cells[:-1] for row in traced}, states


def test_each_byte_of_a_file_is_traced_to_where_it_came_from(lab: Lab) -> None:
    with session_with(lab, "6.1 two CPUs", Mode.SLOW) as session:
        labels = session.answer_labels
        labels.start()
        data = session.files.read("/proc/1/status")
        pieces = list(labels.pieces("/proc/1/status"))
        assert b"".join(data[start:end] for start, end, _ in pieces) == data
        (name,) = [item for item in pieces if data[: item[0]].endswith(b"Name:\t")]
        offset, _size = name[2].ranges[0]
        image = lab.sample("6.1 two CPUs").dump
        with open(image, "rb") as stream:
            stream.seek(offset)
            assert stream.read(name[1] - name[0]) == data[name[0] : name[1]]
        assert str(labels.of([Source("/proc/1/status", 0, 6)])) == "constant"


def test_provenance_is_shown_where_a_session_runs_under_taint(lab: Lab) -> None:
    with session_with(lab, "6.1 two CPUs", Mode.SLOW) as session:
        (row,) = with_provenance(tools.load("uname")).rows(session, {})
        assert "+390" in str(row.cells[-1])


def test_a_damaged_memo_is_reported_ignored_and_replaced(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = lab.sample("6.12")
    arguments = ["run", str(sample.dump), "hostname", "--store", str(lab.store.root)]
    assert main(arguments) == 0
    good, _ = capsys.readouterr()
    kernel = next(kernel for kernel in lab.store.kernels() if kernel.release.startswith("6.12"))
    (path,) = kernel.folder.glob("memo-*")
    path.write_bytes(path.read_bytes()[:-3])
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out == good
    assert err.count("\n") == 1
    assert f"{path}: corrupt; it is ignored" in err
    assert main(arguments) == 0
    assert capsys.readouterr() == (good, "")
