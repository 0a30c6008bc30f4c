"""The formats of /proc/PID, as the kernel writes them and as a hostile process bends them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.pid import (
    parse_cmdline,
    parse_stat,
    parse_status,
    parse_tty_drivers,
    tty_name,
)

BASH = (
    b"1423 (bash) S 1420 1423 1423 34816 1500 4194304 2210 8342 0 1 3 2 11 5 20 -4 1 0 52011 9146368 1271 "
    b"18446744073709551615 94 95 140 0 0 0 65536 3686404 1266761467 1 0 0 17 1 0 0 0 0 0 96 97 98 1 2 3 4 0\n"
)


def test_stat_is_read_by_position() -> None:
    stat = parse_stat(BASH)
    assert (stat.pid, stat.comm, stat.state, stat.ppid) == (1423, "bash", "S", 1420)
    assert (stat.pgrp, stat.session, stat.tty_nr, stat.tpgid) == (1423, 1423, 34816, 1500)
    assert (stat.utime, stat.stime, stat.nice, stat.num_threads) == (3, 2, -4, 1)
    assert (stat.starttime, stat.vsize, stat.rss) == (52011, 9146368, 1271)
    assert not stat.is_kernel_thread


@given(st.binary(max_size=64))
def test_no_name_can_shift_the_fields_of_stat(name: bytes) -> None:
    stat = parse_stat(BASH.replace(b"(bash)", b"(" + name + b")"))
    assert stat.comm.encode("utf-8", "surrogateescape") == name
    assert stat.ppid == 1420
    assert stat.rss == 1271


@given(st.integers(0, len(BASH)))
def test_a_cut_stat_is_an_error_or_has_all_fields(length: int) -> None:
    try:
        assert parse_stat(BASH[:length]).starttime == 52011
    except ParseError as error:
        assert "/proc/PID/stat" in str(error)


@given(st.binary())
def test_any_bytes_for_stat_and_status_give_an_answer_or_a_parse_error(data: bytes) -> None:
    for parse in (parse_stat, parse_status):
        try:
            parse(data)
        except ParseError as error:
            assert "\n" not in str(error)


def test_a_number_too_long_for_python_is_a_parse_error() -> None:
    with pytest.raises(ParseError):
        parse_stat(BASH.replace(b"52011", b"9" * 5000))


STATUS = (
    b"Name:\tsshd\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t431\nPid:\t432\nUid:\t0\t1000\t0\t1000\n"
    b"Gid:\t0\t100\t0\t100\nGroups:\t \nVmSize:\t   15436 kB\nVmRSS:\t    9000 kB\n"
    b"VmLck:\t      12 kB\nThreads:\t1\n"
)


def test_status_gives_the_effective_ids_and_memory_in_bytes() -> None:
    status = parse_status(STATUS)
    assert (status.tgid, status.euid, status.egid) == (431, 1000, 100)
    assert (status.vm_locked, status.vm_size, status.vm_rss) == (12 * 1024, 15436 * 1024, 9000 * 1024)


def test_status_of_a_task_without_memory_has_nothing_locked() -> None:
    assert parse_status(STATUS.replace(b"VmLck", b"VmXxx")).vm_locked == 0


def test_a_name_that_imitates_a_line_of_status_is_not_taken_for_one() -> None:
    # The kernel writes a newline in a name as backslash n (seq_escape_str in proc_task_name).
    assert parse_status(STATUS.replace(b"sshd", b"x\\nUid:\\t7\\t7\\t7\\t7")).euid == 1000


@pytest.mark.parametrize(
    ("data", "argv"),
    [
        (b"", []),
        (b"\0", []),
        (b"/bin/sleep\0" + b"100\0", ["/bin/sleep", "100"]),
        (b"sh\0-c\0\0last\0", ["sh", "-c", "", "last"]),
        (b"nginx: worker process\0\0\0\0\0\0", ["nginx: worker process"]),
        (b"no end", ["no end"]),
        (b"\xff\0", ["\udcff"]),
    ],
)
def test_cmdline(data: bytes, argv: list[str]) -> None:
    assert parse_cmdline(data) == argv


def device(major: int, minor: int) -> int:
    """new_encode_dev()."""
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


DRIVERS = parse_tty_drivers(
    b"/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
    b"serial               /dev/ttyS       4 64-111 serial\n"
    b"usb serial           /dev/ttyUSB   188 0-511 serial\n"
    b"broken line\n"
    b"hvc                  /dev/hvc      229 0-x system\n"
)


@pytest.mark.parametrize(
    ("major", "minor", "name"),
    [
        (0, 0, "?"),
        (4, 1, "tty1"),
        (4, 64, "ttyS0"),
        (5, 1, "console"),
        (136, 0, "pts/0"),
        (136, 300, "pts/300"),
        (137, 1, "pts/257"),
        (188, 7, "ttyUSB7"),
        (229, 0, "229:0"),
    ],
)
def test_a_terminal_has_the_name_ps_gives_it(major: int, minor: int, name: str) -> None:
    assert tty_name(device(major, minor), DRIVERS) == name


@given(st.binary())
def test_any_bytes_for_tty_drivers_give_drivers(data: bytes) -> None:
    assert all(driver.first_minor >= 0 for driver in parse_tty_drivers(data))
