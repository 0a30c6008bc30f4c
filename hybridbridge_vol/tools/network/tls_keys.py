"""Which sockets of processes the kernel itself encrypts (kernel TLS), and by which keys."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOENT
from functools import partial
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.tls_info import TlsInfo, parse_tls_info
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, why
from hybridbridge_vol.tools.process.descriptors import taken
from hybridbridge_vol.tools.process.listing import comm_of

_STATISTICS = "/proc/net/tls_stat"
"""There as long as the kernel has TLS at all (net/tls/tls_proc.c)."""
MAX_SOCKETS = 1 << 16
"""Sockets that are asked."""
_OWNERS_NAMED = 8
_PREFIX = "socket:["


class TlsKey(NamedTuple):
    """One direction of an encrypted socket: what was found of its keys, or why nothing was. `owners`: the
    processes that hold it."""

    socket: str
    owners: str
    sends: bool
    info: TlsInfo | Unavailable

    @property
    def description(self) -> str:
        """What it is, in words, without the key."""
        cipher = "TLS" if isinstance(self.info, Unavailable) else f"{self.info.version} {self.info.cipher}"
        way = "sent" if self.sends else "received"
        return f"{cipher}, what is {way}, {self.socket} of {self.owners}"

    @property
    def payload(self) -> str | Unavailable:
        """The key and what belongs to it, or why it is missing."""
        if isinstance(self.info, Unavailable):
            return self.info
        if not self.info.key:
            return Unavailable("the form of this cipher's key is not known here")
        parts = (("key", self.info.key), ("salt", self.info.salt), ("iv", self.info.vector))
        shown = [f"{name} {data.hex()}" for name, data in parts if data]
        return "; ".join([*shown, f"record {self.info.record}"])


def tls_keys(kernel: GuestKernel) -> Iterator[TlsKey | Unavailable]:
    """The keys of all sockets that processes hold, each socket once; and why some may be missing."""
    try:
        kernel.files.read(_STATISTICS)
    except UNREADABLE as error:
        if not (isinstance(error, OSError) and error.errno == ENOENT):
            yield why(_STATISTICS, error)
        return
    holders: dict[str, list[tuple[int, int]]] = {}
    for found, gap in taken(kernel, lambda target: target if target.startswith(_PREFIX) else None):
        if gap is not None:
            yield gap
        for pid, fd, target in found:
            holders.setdefault(target, []).append((pid, fd))
    for number, (socket, ends) in enumerate(holders.items()):
        if number >= MAX_SOCKETS:
            yield Unavailable(f"given up after {MAX_SOCKETS:,} sockets")
            return
        yield from _of_socket(kernel, socket, ends)


def _of_socket(
    kernel: GuestKernel, socket: str, ends: list[tuple[int, int]]
) -> Iterator[TlsKey | Unavailable]:
    pid, fd = ends[0]
    answers = attempt(f"/proc/{pid}/fd/{fd}", partial(kernel.sockets.tls, pid, fd))
    if isinstance(answers, Unavailable):
        yield answers
        return
    owners = _owners(kernel, dict.fromkeys(pid for pid, _fd in ends)) if answers else ""
    for answer in answers:
        info: TlsInfo | Unavailable
        try:
            info = parse_tls_info(answer.data)
        except ParseError as error:
            info = Unavailable(str(error) if answer.data else "this kernel does not give the key")
        yield TlsKey(socket, owners, answer.sends, info)


def _owners(kernel: GuestKernel, pids: dict[int, None]) -> str:
    names = [(comm_of(kernel.files, f"/proc/{pid}"), pid) for pid in list(pids)[:_OWNERS_NAMED]]
    text = " ".join(f"{name if isinstance(name, str) else '?'}({pid})" for name, pid in names)
    return text if len(pids) <= _OWNERS_NAMED else f"{text} and {len(pids) - _OWNERS_NAMED} more"
