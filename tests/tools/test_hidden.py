"""hidden finds what is planted by editing an image, and nothing in an image as it is."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from generations import RICH
from hypothesis import given
from hypothesis import strategies as st
from image_editor import Editor, hidden, planted, save_without_a_page
from live_kernel import LiveAddresses, LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.objects.task_list import task_list, tasks_offset
from hybridbridge_vol.bridge.objects.task_slab import tasks_in_slabs
from hybridbridge_vol.check.symbol_names import listed_modules
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.procfs.pid import parse_stat, parse_status
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.cross_view.comparison import Comparison, Finding
from hybridbridge_vol.tools.cross_view.control_groups import grouped_processes
from hybridbridge_vol.tools.cross_view.modules import hidden_modules
from hybridbridge_vol.trust.type_information import struct_layouts

Lab = Any
U64 = (1 << 64) - 1
Row = tuple[Any, ...]


@pytest.fixture
def plant(lab: Lab, generation: str, tmp_path: Path) -> Callable[[Callable[[Editor], None]], list[Row]]:
    """Edit a copy of a sample, and what `hidden` says of it."""
    return partial(planted, lab, generation, tmp_path / "planted.raw")


def listener(lab: Lab, generation: str) -> int:
    """A process of the sample that listens."""
    truth = lab.sample(generation).truth
    pids = [pid for pid in truth.processes if truth.late[f"/proc/{pid}/comm"].data == b"redis-server\n"]
    return pids[0]


def test_a_clean_image_has_no_row(lab: Lab, generation: str) -> None:
    assert hidden(lab.session(generation)) == []


def test_the_list_of_tasks_is_that_of_proc(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    tasks, reason = session.tasks.listed()
    assert reason == ""
    assert sorted(pid for pid, _task in tasks) == lab.sample(generation).truth.processes


def test_the_process_of_each_thread_is_the_one_that_its_status_names(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    folders = [f"/proc/{name}/task" for name in session.files.listdir("/proc") if name.isdigit()]
    threads = [int(name) for folder in folders for name in session.files.listdir(folder)]
    named = {tid: parse_status(session.files.read(f"/proc/{tid}/status")).tgid for tid in threads}
    assert any(tid != group for tid, group in named.items())
    assert session.tasks.groups([*threads, max(threads) + 1]) == named


def test_every_module_is_found_by_the_addresses_it_lies_at(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    listed = {line.split()[0] for line in lab.sample(generation).truth.command("lsmod").splitlines()[1:]}
    symbols = [session.addresses.symbol(page) for page in session.addresses.module_pages()]
    assert {name.rpartition("[")[2].rstrip("]") for name in symbols if "[" in name} == listed


@pytest.mark.parametrize("generation", RICH)
def test_a_process_and_a_module_unlinked_from_their_lists_are_found(
    lab: Lab, generation: str, plant: Any
) -> None:
    pid = listener(lab, generation)
    lines = lab.session(generation).files.read("/proc/modules").decode().splitlines()
    name, size = lines[2].split()[:2]

    def unlink(editor: Editor) -> None:
        offset = tasks_offset(editor.bridge)
        assert offset is not None
        editor.unlink(editor.call("find_task_by_vpid", pid) + offset)
        module = editor.bridge.snapshot("modules")
        for _line in lines[:3]:
            module = editor.read(module)
        editor.unlink(module)

    others = "/proc listing, memory of tasks, control groups, children of its parent, /proc/PID look-up"
    rows = plant(unlink)
    assert rows[:3] == [
        ("process", str(pid), "redis-server", others, "task list"),
        ("module", name, name, "/sys/module, addresses, memory of modules", "/proc/modules"),
        ("module", f"{int(size) // 1024} KiB of code and data", "", "/proc/vmallocinfo", "/proc/modules"),
    ]
    (code,) = rows[3:]
    assert re.fullmatch(r"0xffffffffc\w+, \d+ KiB", code[1])
    seen = "page tables: executable, allocated for a module"
    assert (code[0], *code[2:]) == ("code", name, seen, "listed modules, BPF, tracers")


@pytest.mark.parametrize("generation", ["6.1 two CPUs"])
def test_a_process_without_its_id_is_found_with_the_sockets_it_holds(
    lab: Lab, generation: str, plant: Any
) -> None:
    pid = listener(lab, generation)

    def detach(editor: Editor) -> None:
        task, number = editor.call("find_task_by_vpid", pid), editor.call("find_vpid", pid)
        types = struct_layouts(editor.bridge.kernel)
        nodes = range(task, task + types.size("task_struct"))  # others' may be close behind
        for place in range(number, number + types.size("pid"), 8):
            if editor.read(place) in nodes:
                editor.write(place, 0)

    rows = plant(detach)
    process = next(row for row in rows if row[0] == "process")
    seen, missing = (
        "task list, memory of tasks, control groups, children of its parent",
        "/proc listing, /proc/PID look-up",
    )
    assert process == ("process", str(pid), "", seen, missing)
    sockets = [row for row in rows if row[0] == "socket"]
    assert sockets
    assert all(row[4] == "/proc/PID/fd" and row[2].startswith("tcp 127.0.0.1:") for row in sockets)
    assert [row[1] for row in rows if row[0] == "thread"] == [
        f"1 of {lab.session(generation).system.sysinfo().procs}"
    ]


def test_the_processes_of_control_groups_are_those_that_the_guest_listed(
    lab: Lab, rich_generation: str
) -> None:
    truth = lab.sample(rich_generation).truth
    said: set[int] = set()
    for path in truth.late:
        if path.endswith("/cgroup.procs"):
            said.update(map(int, truth.file(path).split()))
    found, read_error = grouped_processes(lab.session(rich_generation).files.of_the_kernel)
    assert read_error is None
    assert found == said
    states = {pid: parse_stat(truth.file(f"/proc/{pid}/stat")).state for pid in set(truth.processes) - found}
    assert set(states.values()) == {"Z"}


def test_the_memory_of_tasks_holds_exactly_the_threads_of_the_guest(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    bridge = session.bridge
    tasks = tasks_in_slabs(bridge, [task for _pid, task in session.tasks.listed()[0]])
    number = bridge.snapshot("__task_pid_nr_ns")
    *others, observer = truth.processes
    said = [observer, *(int(tid) for pid in others for tid in truth.names(f"/proc/{pid}/task"))]
    assert sorted(session.caller.call(number, task, 0, 0) for task in tasks) == sorted(said)
    assert session.tasks.in_memory(tasks) == []


def test_a_missing_page_of_the_kernels_map_of_memory_hides_no_task_of_another_page(
    lab: Lab, tmp_path: Path
) -> None:
    """The map, 64 bytes for each page of memory, lies in large pages."""
    session = lab.session("6.12")
    layout, listed = session.bridge.layout, [task for _pid, task in session.tasks.listed()[0]]
    whole = tasks_in_slabs(session.bridge, listed)
    lost = max(whole)
    place = layout.translate(
        session.bridge.image, layout.vmemmap_base + (lost - layout.page_offset_base) // 4096 * 64
    )
    assert place is not None and place.shift == 21
    path = tmp_path / "hole.lime"
    save_without_a_page(lab.sample("6.12").dump, place.paddr // 4096 * 4096, path)
    with open_session(path, lab.store.root) as holed:
        seen = tasks_in_slabs(holed.bridge, listed)
    path.unlink()
    assert len(seen) == len(set(seen))
    block = 4096 // 64 * 4096  # what a page of the map is about
    blocks = {task: (task - layout.page_offset_base) // block for task in whole}
    assert {task for task in whole if blocks[task] != blocks[lost]} <= set(seen) <= set(whole)
    assert 0 < list(blocks.values()).count(blocks[lost]) < len(whole)


@pytest.mark.parametrize("generation", RICH)
def test_a_process_that_is_on_no_list_is_found_in_the_memory_of_tasks(
    lab: Lab, generation: str, plant: Any
) -> None:
    processes = set(lab.sample(generation).truth.processes)
    pid = max(
        pid for pid in processes if pid + 1 in processes and pid % 64 < 63
    )  # beside another in the table of ids

    def unlist(editor: Editor) -> None:
        task = editor.call("find_task_by_vpid", pid)
        offset = tasks_offset(editor.bridge)
        assert offset is not None
        editor.unlink(task + offset)
        pattern = struct.pack("<2Q", editor.call("find_vpid", pid), editor.call("find_vpid", pid + 1))
        with (
            open(lab.sample(generation).dump, "rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory,
        ):
            editor.words.update((found.start(), 0) for found in re.finditer(re.escape(pattern), memory))

    row = next(row for row in plant(unlist) if row[:2] == ("process", str(pid)))
    seen, missing = (
        "memory of tasks, control groups, children of its parent",
        "/proc listing, task list, /proc/PID look-up",
    )
    assert row == ("process", str(pid), "", seen, missing)


@pytest.mark.parametrize("generation", ["6.1 two CPUs"])
def test_a_broken_task_list_is_reported_and_nothing_counts_as_missing_in_it(
    lab: Lab, generation: str, plant: Any
) -> None:
    def cut(editor: Editor) -> None:
        offset = tasks_offset(editor.bridge)
        assert offset is not None
        editor.write(
            editor.call("find_task_by_vpid", listener(lab, generation)) + offset, 0x4141_4141_4141_4141
        )

    (row,) = plant(cut)
    assert row[0] == "process"
    assert isinstance(row[1], Unavailable) and "out of the image" in row[1].reason


@pytest.mark.parametrize("generation", ["6.1 two CPUs"])
def test_a_cyclic_task_list_ends(lab: Lab, plant: Any, generation: str) -> None:
    def bend(editor: Editor) -> None:
        offset = tasks_offset(editor.bridge)
        assert offset is not None
        task = editor.call("find_task_by_vpid", listener(lab, generation))
        editor.write(task + offset, editor.call("find_task_by_vpid", 2) + offset)

    (row,) = plant(bend)
    assert isinstance(row[1], Unavailable) and "back into itself" in row[1].reason


def test_a_list_of_tasks_is_walked_by_the_image_alone(lab: Lab, generation: str) -> None:
    tasks, reason = task_list(lab.session(generation).bridge)
    assert reason == "" and len(tasks) == len(set(tasks)) > 50


def test_a_kernel_that_cannot_have_modules_lists_none_and_hides_none() -> None:
    kernel = LiveKernel({"/proc/modules": FileNotFoundError()})
    kernel.addresses.has_modules = False
    assert listed_modules(kernel) == []
    assert list(hidden_modules(kernel)) == []


class _ModuleWithoutCode(LiveAddresses):
    """One page of constants; the kernel names no address before the first symbol in it."""

    def module_pages(self) -> Iterator[int]:
        return iter((0xFFFF_FFFF_C000_0000,))

    def symbol(self, vaddr: int) -> str:
        return "byte_rev_table+0xf40/0x100 [bitrev]" if vaddr % 4096 > 0x60 else f"{vaddr:#x}"


def test_a_module_without_code_is_found_by_its_constants() -> None:
    kernel = LiveKernel(
        {"/proc/modules": b"bitrev 8192 0 - Live 0x0000000000000000\n", "/proc/vmallocinfo": b""}
    )
    kernel.addresses = _ModuleWithoutCode()
    findings = [row for row in hidden_modules(kernel) if isinstance(row, Finding)]
    assert not any("addresses" in row.missing for row in findings if row.name == "bitrev")


def test_a_running_machine_has_findings_and_no_doubt_of_a_copy() -> None:
    kernel = LiveKernel({"/proc/modules": b"not_there 8192 0 - Live 0xffffffffc0a31000\n"})
    tool = tools.load("hidden")
    rows = tool.rows(kernel, tool.defaults())
    (row,) = [row.cells for row in rows if row.cells[:2] == ("module", "not_there")]
    assert "/sys/module" in str(row[-1])


def test_nothing_counts_as_missing_in_a_list_that_cannot_be_read() -> None:
    kernel = LiveKernel({"/proc/modules": CallRolledBack("read", "page fault"), "/proc/vmallocinfo": b""})
    rows = list(hidden_modules(kernel))
    assert Unavailable("/proc/modules: page fault") in rows
    assert not any(isinstance(row, Finding) and "/proc/modules" in row.missing for row in rows)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sets(st.integers(0, 9)), min_size=1), st.sampled_from("abcd")
)
def test_differences_are_what_some_list_does_not_name(named: dict[str, set[int]], broken: str) -> None:
    lists: Comparison[int] = Comparison()
    for name, keys in named.items():
        lists.add(name, keys, Unavailable("gone") if name == broken else None)
    found = {key: missing.split(", ") for key, _seen, missing in lists.differences()}
    for key in range(10):
        lacking = [name for name in named if key not in named[name] and name != broken]
        expected = lacking if any(key in keys for keys in named.values()) else []
        assert found.get(key, []) == expected
