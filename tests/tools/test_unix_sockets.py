"""Unix sockets with names of any bytes: neither answer of the kernel makes a socket of a name."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from live_kernel import LiveKernel

from hybridbridge_vol import tools
from hybridbridge_vol.procfs.net import unix_records
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.network.unix_sockets import unix_sockets

TITLE = b"Num       RefCount Protocol Flags    Type St Inode Path\n"
FORGED = b"0000000000000000: 00000002 00000000 00010000 0001 01 424242 /run/forged"
PIECES = st.sampled_from(
    [b"\n", b"\0", b" ", b"\t", b"\r", b"@", b"/", b"a", b"\xff", b"424242", FORGED, b"\n" + FORGED]
)
NAMES = st.none() | st.builds(
    lambda pieces: b"".join(pieces)[:107], st.lists(PIECES, min_size=1, max_size=6)
).map(lambda name: b"\0" + name if not name.startswith(b"/") else name + b"\0")
"""As they are bound: abstract ones begin with NUL, the others are paths and end with one."""


def shown(name: bytes | None) -> bytes:
    """As unix_seq_show writes it (net/unix/af_unix.c)."""
    if name is None:
        return b""
    if name.startswith(b"\0"):
        return b" @" + name[1:].replace(b"\0", b"@")
    return b" " + name[:-1].replace(b"\0", b"@")


def line(inode: int, name: bytes | None) -> bytes:
    return b"%016x: 00000002 00000000 00010000 0001 01 %5d" % (inode, inode) + shown(name) + b"\n"


def message(inode: int, name: bytes | None) -> bytes:
    """struct unix_diag_msg and its name."""
    body = struct.pack("<BBBxIQ", 1, 1, 10, inode, inode)
    if name is not None:
        body += struct.pack("<HH", 4 + len(name), 0) + name + bytes(-len(name) % 4)
    return struct.pack("<IHHII", 16 + len(body), 20, 2, 1, 0) + body


SOCKETS = st.lists(st.tuples(st.integers(1, 99999), NAMES), max_size=8, unique_by=lambda item: item[0])
DONE = struct.pack("<IHHIIi", 20, 3, 2, 1, 0, 0)


def kernel_of(sockets: list[tuple[int, bytes | None]], diag: bytes | Exception) -> LiveKernel:
    count = b"protocol  size sockets  memory\nUNIX      1024   %d   -1\n" % len(sockets)
    return LiveKernel({
        "/proc/net/unix": TITLE + b"".join(line(*one) for one in sockets),
        "/proc/net/protocols": count,
        "sock_diag unix": diag,
    })  # fmt: skip


@given(SOCKETS)
def test_a_table_is_split_where_its_sockets_names_end(sockets: list[tuple[int, bytes | None]]) -> None:
    data = TITLE + b"".join(line(*one) for one in sockets)
    names = {inode: {shown(name)[1:]} for inode, name in sockets}
    records, agrees = unix_records("unix", data, names)
    assert agrees
    assert [record.socket.inode for record in records] == [inode for inode, _name in sockets]
    assert [record.socket.pointer for record in records] == [inode for inode, _name in sockets]
    for record, (inode, name) in zip(records, sockets, strict=True):
        assert data[record.source.start : record.source.end] == line(inode, name)


@given(SOCKETS)
def test_by_sock_diag_every_socket_is_one_and_has_its_name(sockets: list[tuple[int, bytes | None]]) -> None:
    kernel = kernel_of(sockets, b"".join(message(*one) for one in sockets) + DONE)
    found: list[Any] = list(unix_sockets(kernel))  # type: ignore[arg-type]
    assert [one.inode for one in found] == [inode for inode, _name in sockets]
    assert [os.fsencode(one.name) for one in found] == [shown(name)[1:] for _inode, name in sockets]
    assert [one.pointer for one in found] == [inode for inode, _name in sockets]


@given(SOCKETS)
def test_without_sock_diag_no_part_of_a_name_is_a_socket(sockets: list[tuple[int, bytes | None]]) -> None:
    kernel = kernel_of(sockets, OSError(errno.ENOENT, "no module unix_diag"))
    found = list(unix_sockets(kernel))  # type: ignore[arg-type]
    rows = [one for one in found if not isinstance(one, Unavailable)]
    assert {one.inode for one in rows} <= {inode for inode, _name in sockets}
    if not any(name and b"\n" in name for _inode, name in sockets):
        assert [one.inode for one in rows] == [inode for inode, _name in sockets] and rows == found
    elif len(rows) < len(sockets):
        assert any(isinstance(one, Unavailable) for one in found)


def test_a_forged_line_is_refused_by_name_without_sock_diag() -> None:
    sockets = [(7, b"\0x\n" + FORGED), (8, None)]
    kernel = kernel_of(sockets, OSError(errno.ENOENT, "no module unix_diag"))
    rows = [row.cells for row in tools.load("ss").rows(kernel, _options("ss", unix=True, all=True))]  # type: ignore[arg-type]
    reasons = [row[0].reason for row in rows if isinstance(row[0], Unavailable)]
    assert reasons[0] == "/proc/net/unix: 3 lines for 2 sockets; sock_diag unix: no module unix_diag"
    assert reasons[1].startswith("/proc/net/unix: a line that may be part of a name: b'0000000000000000: ")
    assert [row[4] for row in rows if not isinstance(row[0], Unavailable)] == ["@x 7"]


def _options(name: str, **options: Any) -> dict[str, Any]:
    return tools.load(name).defaults() | options


def test_a_socket_of_this_machine_with_a_nasty_name_is_one_row() -> None:
    with socket.socket(socket.AF_UNIX) as nasty:
        name = b"\0hybridbridge %d\n" % os.getpid() + FORGED
        nasty.bind(name[:107])
        nasty.listen(3)
        inode = os.fstat(nasty.fileno()).st_ino
        found: list[Any] = list(unix_sockets(LiveKernel()))  # type: ignore[arg-type]
    (row,) = [one for one in found if not isinstance(one, Unavailable) and one.inode == inode]
    assert (os.fsencode(row.name), row.listens, row.diag.sent) == (b"@" + name[1:107], True, 3)
    assert not any(one.inode == 424242 for one in found if not isinstance(one, Unavailable))
