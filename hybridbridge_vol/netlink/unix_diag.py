"""Unix sockets as sock_diag answers them (net/unix/diag.c; include/uapi/linux/unix_diag.h)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.netlink.messages import attributes

_BODY = struct.Struct("<BBBxIQ")
_NAME, _PEER, _ICONS, _RQLEN, _SHUTDOWN, _UID = 0, 2, 3, 4, 6, 7


class UnixDiag(NamedTuple):
    """struct unix_diag_msg and its attributes."""

    type: int
    """SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET."""
    state: int
    """TCP_* (include/net/tcp_states.h): 1 established, 7 closed, 10 listening."""
    inode: int
    """0: it belongs to no process, as a connection that is not accepted yet."""
    cookie: int
    name: bytes | None
    """As it was bound: of an abstract one the first byte is NUL. None: it has none."""
    peer: int
    """Inode of the socket at the other end; 0: none, or it has no inode."""
    received: int
    """Bytes not yet read; of a listening socket: connections not yet accepted."""
    sent: int
    """Bytes of memory that wait at the other end; of a listening socket: connections that may wait."""
    waiting: tuple[int, ...]
    """Inodes of the sockets whose connections wait to be accepted."""
    uid: int | None
    shutdown: int
    """1: it receives no more, 2: it sends no more, 3: both."""

    @property
    def shown_name(self) -> bytes:
        """As /proc/net/unix shows it (`unix_seq_show`): abstract ones behind `@`, and NUL bytes as `@`."""
        if self.name is None:
            return b""
        if self.name.startswith(b"\0"):
            return self.name.replace(b"\0", b"@")
        return self.name.removesuffix(b"\0").replace(b"\0", b"@")


def parse_unix_diag(body: bytes) -> UnixDiag:
    """A message. Raises struct.error."""
    _family, kind, state, inode, cookie = _BODY.unpack_from(body)
    found = attributes(body[_BODY.size :])
    received, sent = struct.unpack_from("<II", found[_RQLEN]) if _RQLEN in found else (0, 0)
    waiting = found.get(_ICONS, b"")
    return UnixDiag(
        kind, state, inode, cookie, found.get(_NAME), int.from_bytes(found.get(_PEER, b""), "little"),
        received, sent, struct.unpack_from(f"<{len(waiting) // 4}I", waiting),
        int.from_bytes(found[_UID], "little") if _UID in found else None,
        int.from_bytes(found.get(_SHUTDOWN, b""), "little"),
    )  # fmt: skip
