"""Lists of /proc of which the kernel cannot write some records, in copies of real images: the others are
shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from answers import ask
from default_run import in_default_run
from generations import RICH, Lab
from image_editor import Editor

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.guest.values import MissingRecords
from hybridbridge_vol.procfs.sources import split_lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.units import U64

WILD = 0xDEAD_0000_0000_0000
"""An address that no x86-64 processor has."""
UNIX_HASH_SIZE = 256
"""include/net/af_unix.h."""
MOUNTINFO, MODULES, UNIX = "/proc/1/mountinfo", "/proc/modules", "/proc/net/unix"


@pytest.fixture(scope="module", params=in_default_run(RICH, "6.1 two CPUs"))
def clean(request: pytest.FixtureRequest, lab: Lab) -> tuple[Lab, str]:
    return lab, str(request.param)


def mounts(memory: TypedMemory) -> list[int]:
    """The `struct mount`s of the first process, in the order of its mountinfo."""
    head = memory.at(memory.symbol("init_task"), "task_struct", "tasks")
    first = next(
        task
        for task in memory.list(head, "task_struct", "tasks")
        if memory.get(task, "task_struct", "tgid") == 1
    )
    space = memory.get(memory.get(first, "task_struct", "nsproxy"), "nsproxy", "mnt_ns")
    if memory.types.has("mount", "mnt_node"):
        return list(memory.tree(memory.at(space, "mnt_namespace", "mounts"), "mount", "mnt_node"))
    return list(memory.list(memory.at(space, "mnt_namespace", "list"), "mount", "mnt_list"))


def modules(memory: TypedMemory) -> list[int]:
    return list(memory.list(memory.symbol("modules"), "module", "list"))


def edited(clean: tuple[Lab, str], path: Path, words: dict[int, int]) -> Iterator[Session]:
    """A session on a copy of the image with other words at these virtual addresses."""
    lab, name = clean
    editor = Editor(lab.session(name))
    for vaddr, word in words.items():
        editor.write(vaddr, word)
    editor.save(lab.sample(name).dump, path)
    with open_session(path, lab.store.root) as session:
        yield session
    path.unlink()


@pytest.fixture(scope="module")
def damaged(clean: tuple[Lab, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Three mounts, a module and a unix socket lead to no memory where their text is made."""
    session = clean[0].session(clean[1])
    memory = TypedMemory(session.bridge)
    words = {memory.at(mounts(memory)[number], "mount", "mnt_devname"): WILD for number in (2, 3, 6)}
    words[memory.at(modules(memory)[1], "module", "source_list")] = WILD
    words[memory.at(named_socket(session)[1], "unix_sock", "addr")] = WILD
    yield from edited(clean, tmp_path_factory.mktemp("records") / "damaged.raw", words)


@pytest.fixture(scope="module")
def broken(clean: tuple[Lab, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The link from the third module to the fourth leads to no memory."""
    memory = TypedMemory(clean[0].session(clean[1]).bridge)
    words = {memory.at(modules(memory)[2], "module", "list"): WILD}
    yield from edited(clean, tmp_path_factory.mktemp("records") / "broken.raw", words)


def unix_sockets(memory: TypedMemory) -> list[int]:
    """The `struct sock`s of the first network namespace, in the order of /proc/net/unix."""
    size = 2 * UNIX_HASH_SIZE
    if memory.types.has("net", "unx.table.buckets"):  # from 5.20 on each namespace has its own
        table, size = memory.get(memory.symbol("init_net"), "net", "unx.table.buckets"), UNIX_HASH_SIZE
    else:
        table = memory.symbol("unix_socket_table")
    heads = (table + 8 * number for number in range(size))
    return [sock for head in heads for sock in memory.hlist(head, "sock", "__sk_common.skc_node")]


def named_socket(session: Session) -> tuple[int, int]:
    """The number of a line of /proc/net/unix that has a name, and the address of its socket."""
    memory = TypedMemory(session.bridge)
    numbers = {}
    for sock in unix_sockets(memory):
        place = memory.get(sock, "sock", "sk_socket") + memory.types.offset("socket_alloc", "vfs_inode")
        numbers[b"%d" % memory.get(place, "inode", "i_ino")] = sock
    for number, line in enumerate(split_lines(session.files.read(UNIX))):
        words = line.split()
        if len(words) == 8 and words[6] in numbers:
            return number, numbers[words[6]]
    raise AssertionError("no socket has a name")


def partial(session: Session, path: str) -> MissingRecords:
    with pytest.raises(MissingRecords) as raised:
        session.files.read(path)
    return raised.value


def without(session: Session, path: str, *numbers: int) -> list[bytes]:
    lines = split_lines(session.files.read(path))
    return [line for number, line in enumerate(lines) if number not in numbers]


def test_records_behind_one_that_cannot_be_written_are_read(clean: tuple[Lab, str], damaged: Session) -> None:
    whole = clean[0].session(clean[1])
    number, _socket = named_socket(whole)
    for path, missing in ((MOUNTINFO, (2, 3, 6)), (MODULES, (1,)), (UNIX, (number,))):
        error = partial(damaged, path)
        assert split_lines(error.partial) == without(whole, path, *missing), path
        assert error.behind == tuple(line - before for before, line in enumerate(missing))
        assert "fault" in (error.strerror or "")
    assert "3 records, the first behind line 2, cannot be read" in (
        partial(damaged, MOUNTINFO).strerror or ""
    )


def test_the_first_record_may_be_one_that_cannot_be_written(clean: tuple[Lab, str], tmp_path: Path) -> None:
    """A read from the first byte on begins with it again."""
    whole = clean[0].session(clean[1])
    memory = TypedMemory(whole.bridge)
    words = {memory.at(modules(memory)[number], "module", "source_list"): WILD for number in (0, 2)}
    for session in edited(clean, tmp_path / "first.raw", words):
        error = partial(session, MODULES)
        assert split_lines(error.partial) == without(whole, MODULES, 0, 2)
        assert error.behind == (0, 1)


def test_tools_show_them_and_a_row_says_what_is_missing(clean: tuple[Lab, str], damaged: Session) -> None:
    whole = clean[0].session(clean[1])
    for tool, column, missing in (("mounts", "ID", 3), ("lsmod", "MODULE", 1)):
        rows, before = ask(damaged, tool), ask(whole, tool)
        lacks = [row[column] for row in rows if isinstance(row[column], Unavailable)]
        assert len(lacks) == 1 and "cannot be read" in lacks[0].reason, tool
        assert len(rows) - 1 == len(before) - missing, tool


def test_a_list_ends_with_the_record_that_leads_to_no_other(clean: tuple[Lab, str], broken: Session) -> None:
    whole = split_lines(clean[0].session(clean[1]).files.read(MODULES))
    error = partial(broken, MODULES)
    assert split_lines(error.partial) == whole[:3] and error.behind == ()
    assert (error.strerror or "").startswith("what follows line 3 cannot be read: ")
    rows = ask(broken, "lsmod")
    assert len(rows) == 4 and "what follows line 3" in rows[3]["MODULE"].reason


def test_a_record_that_is_all_of_a_file_is_no_list(damaged: Session, clean: tuple[Lab, str]) -> None:
    """What one function writes as a whole (`single_open`) is read or not."""
    session = clean[0].session(clean[1])
    assert session.files.read("/proc/1/status") == damaged.files.read("/proc/1/status")


def test_behind_a_record_that_is_all_of_a_file_none_is_looked_for(clean: tuple[Lab, str]) -> None:
    lab, name = clean
    with open_session(lab.sample(name).dump, lab.store.root) as session:
        memory, task = TypedMemory(session.bridge), session.proxy.function("find_task_by_vpid", 1) & U64
        session.bridge.machine.write_u64(memory.at(task, "task_struct", "signal"), WILD)
        session.caller.mark()
        with pytest.raises(CallRolledBack):
            session.files.read("/proc/1/status")
        assert not [call for call in session.statistics.by_call if call.startswith("seq_file")]
