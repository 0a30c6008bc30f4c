"""Which sockets of a table of /proc/net are the kernel's own: made by the kernel, not by a process.

A file of /proc/net walks its table with functions that return one `struct sock` after the other
(`tcp_seq_start` and its like; net/ipv4/tcp_ipv4.c, udp.c, raw.c). The twin's are called here with the
`seq_file` of a file that the proxy task opened. A socket that a process made belongs to an open file; the
kernel's own have none (net/socket.c, `sock_create_kern`), or one that no process has, as sockets of sunrpc
(net/sunrpc/svcsock.c, `svc_addsock`) and iSCSI: a module takes what arrives at them, instead of waking a
process that reads (`sk_data_ready`; net/core/sock.c, `sock_def_readable`). Where these pointers are is found
by value in a socket of the proxy task's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.objects.struct_socket import struct_socket
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.kernel_file.struct_sizes import StructSizes, in_usual_or_larger
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.machine.words import read_words
from hybridbridge_vol.units import U64

_SEQ_FILE_SIZE, _SOCKET_SIZE = 256, 128
"""Bytes of struct seq_file and socket in which pointers are looked for."""
_WAKES_READERS = "sock_def_readable"
_FOR_PROCESSES = ("tls_", "psock_", "smc_", "mptcp_", "subflow_", "espintcp_")
"""How the functions of modules begin that look at what arrives, and leave it to the socket's process."""
_PREFIXES = {"tcp": "tcp", "udp": "udp", "raw": "raw"}
"""How the functions' names begin, by the table's name without its 6."""


class _Offsets(NamedTuple):
    """Bytes from the beginning of struct sock to its socket, and of struct socket to its file and sock; and
    of struct sock to the function that is called when data has arrived (None if it is not found)."""

    sock_socket: int
    socket_file: int
    socket_sock: int
    sock_ready: int | None


def are_kernels(caller: Caller, table: str, fd: int, own_socket: int, most: int) -> list[bool]:
    """For each line of a table ("tcp6") behind its title, in their order: whether the socket is the kernel's
    own. `fd` is the opened file, `own_socket` a socket of the proxy task's: its descriptors. At most `most`
    sockets are looked at.

    Raises CallRolledBack, KeyError if the kernel has no such functions, AttachError if its structures have an
    unknown form.
    """
    try:
        offsets = in_usual_or_larger(lambda sizes: _find_offsets(caller, own_socket, sizes), ValueError)
        return [_is_kernels(caller, sock, offsets) for sock in _walk(caller, table, fd, most)]
    except (ValueError, UnmappedVirtual):
        raise AttachError(
            f"{caller.bridge.kernel.name}: this kernel's sockets have an unknown form"
        ) from None


def _find_offsets(caller: Caller, own_socket: int, sizes: StructSizes) -> _Offsets:
    """ValueError if a pointer is not found."""
    bridge, machine = caller.bridge, caller.bridge.machine
    file = _struct_file(caller, own_socket)
    socket = struct_socket(caller, own_socket)
    words = read_words(machine, socket, _SOCKET_SIZE)
    for index, word in enumerate(words):
        inner = read_words(machine, word, sizes.sock) if word in bridge.boot.layout else []
        if word != file and socket in inner:
            wakes = {bridge.home(_WAKES_READERS), bridge.snapshot(_WAKES_READERS)}
            ready = next((8 * at for at, function in enumerate(inner) if function in wakes), None)
            return _Offsets(8 * inner.index(socket), 8 * words.index(file), 8 * index, ready)
    raise ValueError


def _struct_file(caller: Caller, fd: int) -> int:
    """The `struct file` of a descriptor; a reference is kept, as the call ends with the session."""
    return caller.call(caller.bridge.home("fget"), fd, label="fget") & U64


def _walk(caller: Caller, table: str, fd: int, most: int) -> Iterator[int]:
    """The `struct sock` of each line, up to `most`. ValueError if the file is not one of lines."""
    bridge = caller.bridge
    file = _struct_file(caller, fd)
    seq_file = in_usual_or_larger(lambda sizes: _seq_file(caller, file, sizes), ValueError)
    prefix = _PREFIXES[table.removesuffix("6")]
    start, following, stop = (bridge.snapshot(f"{prefix}_seq_{name}") for name in ("start", "next", "stop"))
    position = caller.put((1).to_bytes(8, "little"))  # 0 is the title
    sock = caller.call(start, seq_file, position, label=f"{prefix}_seq_start") & U64
    for _line in range(most):
        if not sock:
            break
        yield sock
        sock = caller.call(following, seq_file, sock, position, label=f"{prefix}_seq_next") & U64
    caller.call(stop, seq_file, sock, label=f"{prefix}_seq_stop")


def _seq_file(caller: Caller, file: int, sizes: StructSizes) -> int:
    """The seq_file of a `struct file`: both point at each other. ValueError if there is none."""
    bridge, machine = caller.bridge, caller.bridge.machine
    for word in read_words(machine, file, sizes.file):
        if word in bridge.boot.layout and file in read_words(machine, word, _SEQ_FILE_SIZE):
            return word
    raise ValueError


def _is_kernels(caller: Caller, sock: int, offsets: _Offsets) -> bool:
    """A socket whose pointers do not lead back to it is not: a connection that is closing has other fields
    there."""
    bridge, machine = caller.bridge, caller.bridge.machine
    try:
        socket = machine.read_u64(sock + offsets.sock_socket)
        if not bridge.may_be_snapshot(socket) or machine.read_u64(socket + offsets.socket_sock) != sock:
            return False
        if machine.read_u64(socket + offsets.socket_file) == 0:
            return True
        ready = 0 if offsets.sock_ready is None else machine.read_u64(sock + offsets.sock_ready)
    except UnmappedVirtual:
        return False
    return _takes_data(caller, ready)


def _takes_data(caller: Caller, function: int) -> bool:
    """Whether a function is one of a module that takes what arrives at a socket for the kernel."""
    trusted = caller.bridge.space.modules.at(function)
    if trusted is None or not trusted.executable:
        return False
    return not trusted.module.describe(function).startswith(_FOR_PROCESSES)
