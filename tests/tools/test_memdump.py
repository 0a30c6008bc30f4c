"""memdump: ELF cores that others can read, and that hold what the guest knew of its processes' memory."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from generations import RICH
from hypothesis import given, settings
from hypothesis import strategies as st
from image_editor import save_without_a_page
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Raw
from hybridbridge_vol.tools.memdump import Memdump
from hybridbridge_vol.tools.process import elf_core
from hybridbridge_vol.tools.process.elf_core import MappedFile, Segment
from hybridbridge_vol.tools.process.memory import Run, bounded, joined
from samples.truth import Truth

Lab = Any
KERNEL_THREAD = 2
PAGE_SIZE = 4096


class Core:
    """A core as pyelftools reads it."""

    def __init__(self, data: bytes) -> None:
        self.elf = ELFFile(io.BytesIO(data))
        self.loads = [s for s in self.elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        (notes,) = (s for s in self.elf.iter_segments() if s["p_type"] == "PT_NOTE")
        self.notes = [(note["n_type"], note["n_desc"], note["n_descdata"]) for note in notes.iter_notes()]

    def note(self, kind: str) -> Any:
        """The first note of a kind, as pyelftools parses it."""
        return next(value for name, value, _data in self.notes if name == kind)

    def contents(self, kind: str) -> list[bytes]:
        """The bytes of all notes of a kind."""
        return [bytes(data) for name, _value, data in self.notes if name == kind]

    def read(self, vaddr: int, size: int) -> bytes:
        """Memory of the process."""
        data = b""
        for load in self.loads:
            offset = vaddr + len(data) - load["p_vaddr"]
            if 0 <= offset < load["p_filesz"] and len(data) < size:
                data += load.data()[offset : offset + size - len(data)]
        return data


def options(pid: int, **more: Any) -> dict[str, Any]:
    """Options of memdump."""
    return Memdump.defaults() | {"pid": pid} | more


def dump(kernel: GuestKernel, pid: int, **more: Any) -> tuple[Core, list[str]]:
    """The core of a process, and what it says is missing."""
    tool = tools.load("memdump")
    assert isinstance(tool, Raw)
    pieces = list(tool.raw(kernel, options(pid, **more)))
    core = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    return Core(core), [piece.reason for piece in pieces if isinstance(piece, Unavailable)]


def user_processes(truth: Truth) -> list[int]:
    """Processes with memory of their own, but for the observer."""
    return [pid for pid in truth.processes[:-1] if truth.file(f"/proc/{pid}/maps")]


def test_a_core_holds_environment_and_arguments_where_the_kernel_says_they_are(
    lab: Lab, generation: str
) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    for pid in user_processes(truth)[:6]:
        core, missing = dump(session, pid)
        assert missing == []
        fields = truth.file(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        arg_start, arg_end, env_start, env_end = map(int, fields[45:49])
        assert core.read(arg_start, arg_end - arg_start) == truth.file(f"/proc/{pid}/cmdline")
        assert core.read(env_start, env_end - env_start) == truth.file(f"/proc/{pid}/environ")


def test_a_core_names_process_files_and_auxiliary_vector(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    core, _missing = dump(session, 1)
    who = core.note("NT_PRPSINFO")
    assert (who["pr_pid"], who["pr_ppid"], who["pr_sname"]) == (1, 0, b"S")
    assert who["pr_fname"].rstrip(b"\0") + b"\n" == truth.file("/proc/1/comm")
    assert who["pr_psargs"].rstrip(b"\0").split() == truth.file("/proc/1/cmdline").rstrip(b"\0").split(b"\0")
    files = core.note("NT_FILE")
    said = [line.split() for line in truth.file("/proc/1/maps").decode().splitlines() if "/" in line]
    assert [name.decode() for name in files["filename"]] == [words[5] for words in said]
    assert [f"{e['vm_start']:x}-{e['vm_end']:x}" for e in files["Elf_Nt_File_Entry"]] == [
        words[0] for words in said
    ]
    (auxv,) = core.contents("NT_AUXV")
    assert auxv == truth.file("/proc/1/auxv")


@pytest.mark.parametrize("generation", RICH)
def test_the_registers_of_every_thread_are_those_it_entered_the_kernel_with(
    lab: Lab, generation: str
) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    compared = 0
    for pid in user_processes(truth):
        words = truth.file(f"/proc/{pid}/syscall").split()
        if len(words) == 9:
            found = session.threads.registers(pid)
            assert found is not None and found.machine == elf_core.X86_64.machine
            registers = struct.unpack("<27Q", found.general)
            number, rsp, rip = registers[15], registers[19], registers[16]
            assert (number, rsp, rip) == (int(words[0]), int(words[7], 16), int(words[8], 16))
            compared += 1
    assert compared > 20


def test_each_thread_has_its_status_in_the_core(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    pid = next(p for p in user_processes(truth) if len(truth.names(f"/proc/{p}/task")) > 2)
    core, _missing = dump(session, pid)
    tids = [struct.unpack_from("<i", status, 32)[0] for status in core.contents("NT_PRSTATUS")]
    assert tids[0] == pid
    assert sorted(tids) == sorted(int(name) for name in truth.names(f"/proc/{pid}/task"))


def test_segments_tile_the_mappings_and_carry_their_flags(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    core, _missing = dump(session, 1)
    loads = list(core.loads)
    for line in truth.file("/proc/1/maps").decode().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        while start < end:
            load = loads.pop(0)
            assert load["p_vaddr"] == start
            assert load["p_flags"] == sum(
                {"r": 4, "w": 2, "x": 1}.get(letter, 0) for letter in line.split()[1]
            )
            assert load["p_filesz"] in (0, load["p_memsz"])
            start += load["p_memsz"]
        assert start == end
    assert loads == []


def test_as_much_is_dumped_as_is_resident(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    rows = [row.cells for row in tools.load("memdump").rows(session, options(1))]
    resident = [
        int(line.split()[1]) for line in truth.file("/proc/1/smaps").splitlines() if line.startswith(b"Rss:")
    ]
    assert [cells[4] for cells in rows] == resident
    assert all(size == dumped + absent for _s, _e, _p, size, dumped, absent, swapped, lost, _n in rows)
    assert sum(resident) > 1000


@pytest.mark.parametrize("generation", RICH)
def test_text_that_two_processes_share_is_the_same_in_both(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    shells = [
        pid for pid in user_processes(truth) if truth.links[f"/proc/{pid}/exe"].data == b"/usr/bin/dash"
    ][:2]
    texts = []
    for pid in shells:
        line = next(
            x for x in truth.file(f"/proc/{pid}/maps").splitlines() if b"r-xp" in x and x.endswith(b"dash")
        )
        start, end = (int(part, 16) for part in line.split()[0].split(b"-"))
        text = dump(session, pid)[0].read(start, end - start)
        texts.append([text[at : at + PAGE_SIZE] for at in range(0, len(text), PAGE_SIZE)])
    absent = bytes(
        PAGE_SIZE
    )  # what a process never ran is not in its page tables, nor in the core at the end
    shared = [(a, b) for a, b in zip(*texts, strict=False) if absent not in (a, b)]
    assert all(a == b for a, b in shared)
    assert len(shared) > 10


def test_a_file_gets_what_a_pipe_gets_and_is_not_overwritten(lab: Lab, tmp_path: Path) -> None:
    sample, path = lab.sample("6.12"), tmp_path / "init.core"
    command = [
        sys.executable,
        "-m",
        "hybridbridge_vol",
        "run",
        sample.raw,
        "memdump",
        "1",
        "--store",
        lab.store.root,
    ]
    piped = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (piped.returncode, piped.stderr) == (0, b"")
    table = subprocess.run([*command, "--out", path], capture_output=True, check=False, timeout=60)
    assert table.returncode == 0
    assert path.read_bytes() == piped.stdout
    assert b"[stack]" in table.stdout
    again = subprocess.run([*command, "--out", path], capture_output=True, check=False, timeout=60)
    assert (again.returncode, again.stdout) == (1, b"")
    assert b"File exists" in again.stderr and again.stderr.count(b"\n") == 1
    assert path.read_bytes() == piped.stdout


@pytest.mark.parametrize("pid", [KERNEL_THREAD, 99999])
def test_a_process_without_memory_is_an_error_that_says_so(lab: Lab, pid: int) -> None:
    with pytest.raises(OSError, match=r"no memory of its own|No such file"):
        dump(lab.session("6.12"), pid)


def test_a_limit_holds_and_is_reported(lab: Lab) -> None:
    core, missing = dump(lab.session("6.12"), 1, limit=1)
    assert sum(load["p_filesz"] for load in core.loads) == 1 << 20
    assert any("beyond the limit" in reason for reason in missing)


def test_a_page_that_the_image_does_not_hold_is_reported_and_left_out(lab: Lab, tmp_path: Path) -> None:
    sample, session = lab.sample("6.12"), lab.session("6.12")
    fields = sample.truth.file("/proc/1/stat").rpartition(b")")[2].split()
    page_vaddr = int(fields[47]) & -4096
    (word,) = struct.unpack("<Q", session.files.read_at("/proc/1/pagemap", page_vaddr // 4096 * 8, 8))
    hole = (word & (1 << 55) - 1) * 4096
    path = tmp_path / "hole.lime"
    save_without_a_page(sample.dump, hole, path)
    with open_session(path, lab.store.root) as holed:
        core, missing = dump(holed, 1)
        rows = [row.cells for row in tools.load("memdump").rows(holed, options(1))]
    path.unlink()
    assert core.read(page_vaddr, 4096) == b""
    assert len(missing) == 1 and "not in the image" in missing[0]
    (error_text,) = (cells[7] for cells in rows if isinstance(cells[7], Unavailable))
    assert error_text.reason.startswith("4 KiB")


def test_what_cannot_be_read_is_zero_and_reported() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout and child.stdout.readline()
        kernel = LiveKernel({f"/proc/{child.pid}/mem": CallRolledBack("pread64", "page fault")})
        core, missing = dump(kernel, child.pid, limit=1)
        truth, _missing = dump(LiveKernel(), child.pid, limit=1)
        assert [load["p_vaddr"] for load in core.loads] == [load["p_vaddr"] for load in truth.loads]
        assert any(any(load.data()) for load in truth.loads)
        assert not any(any(load.data()) for load in core.loads)
        assert any("page fault" in reason for reason in missing)
    finally:
        child.communicate(b"\n")


pages = st.integers(0, 40).map(lambda number: number * 4096)
states: st.SearchStrategy[Any] = st.sampled_from(["there", "absent", "swapped", "lost"])


@st.composite
def neighbours(draw: st.DrawFn) -> list[Run]:
    """Runs that follow each other."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 9), states), max_size=12))
    place, runs = 0x1000, []
    for size, state in sizes:
        runs.append(Run(place, place + size * 4096, state))
        place += size * 4096
    return runs


@given(neighbours(), pages)
def test_runs_are_joined_and_bounded_without_losing_a_page(runs: list[Run], limit: int) -> None:
    short = list(joined(runs))
    assert [s.state for s in short] == [
        r.state for i, r in enumerate(runs) if not i or runs[i - 1].state != r.state
    ]
    kept = list(bounded(short, limit))
    assert sum(run.size for run in kept) == sum(run.size for run in runs)
    there = sum(run.size for run in runs if run.state == "there")
    assert sum(run.size for run in kept if run.state == "there") == min(there, limit)


@settings(max_examples=30)
@given(neighbours(), st.binary(max_size=50))
def test_any_list_of_segments_makes_an_elf_file(runs: list[Run], content: bytes) -> None:
    segments = [Segment(run.start_vaddr, run.end_vaddr, "r-x", run.state == "there") for run in runs]
    data = elf_core.head(segments, elf_core.note(elf_core.NT_AUXV, content))
    data += b"".join(bytes([n % 256]) * s.size for n, s in enumerate(segments) if s.filled)
    core = Core(data)
    assert [(s["p_vaddr"], s["p_memsz"], s["p_filesz"]) for s in core.loads] == [
        (s.start_vaddr, s.size, s.size if s.filled else 0) for s in segments
    ]
    for number, (segment, load) in enumerate(zip(segments, core.loads, strict=True)):
        assert load.data() == (bytes([number % 256]) * segment.size if segment.filled else b"")


def test_more_segments_than_a_header_can_count_are_counted_elsewhere() -> None:
    segments = [Segment(n * 8192, n * 8192 + 4096, "rw-", False) for n in range(70000)]
    assert ELFFile(io.BytesIO(elf_core.head(segments, b""))).num_segments() == 70001


def test_names_of_files_with_odd_bytes_are_kept() -> None:
    content = elf_core.files(
        [MappedFile(0x1000, 0x3000, 0x2000, b"/a b\xff"), MappedFile(0x4000, 0x5000, 0, b"/c")]
    )
    assert struct.unpack_from("<8Q", content) == (2, 4096, 0x1000, 0x3000, 2, 0x4000, 0x5000, 0)
    assert content[64:] == b"/a b\xff\0/c\0"
