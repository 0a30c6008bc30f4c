"""Netlink messages and their attributes (include/uapi/linux/netlink.h): a header of 16 bytes, a body, and
attributes; each begins at a multiple of 4 bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, TypeVar

from hybridbridge_vol.errors import ParseError, kernel_error
from hybridbridge_vol.procfs.sources import Source

T = TypeVar("T")

NLMSG_ERROR, NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 1, 4, 0x300
HEADER = struct.Struct("<IHHII")
NLA_TYPE_MASK = 0x3FFF
"""Of an attribute's type, without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""


def dump_request(kind: int, body: bytes, is_list: bool = True) -> bytes:
    """A request for all of a kind, whose answer says where it ends; or for one, whose answer ends with an
    acknowledgement."""
    flags = _NLM_F_REQUEST | (_NLM_F_DUMP if is_list else _NLM_F_ACK)
    return HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body


class Message(NamedTuple):
    """A message without its header, and where it begins in what was received."""

    kind: int
    body: bytes
    offset: int


def messages(data: bytes) -> Iterator[Message]:
    """The messages in what was received, up to one that is not whole."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, _flags, _sequence, _port = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > len(data):
            return
        yield Message(kind, data[offset + HEADER.size : offset + length], offset)
        offset += length + 3 & ~3


def is_last(data: bytes) -> bool:
    """Whether the answer ends with this part of it: it is empty, says so, or makes no sense. Raises OSError
    where the kernel answers with an error."""
    last = None
    for last in messages(data):
        if last.kind in (NLMSG_ERROR, NLMSG_DONE):
            error = int.from_bytes(last.body[:4], "little", signed=True)
            if error < 0:
                raise kernel_error(error, "netlink")
            return True
    return last is None


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each attribute (struct nlattr), up to one that is not whole."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("<HH", data, offset)
        if length < 4 or offset + length > len(data):
            return
        yield kind & NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += length + 3 & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes by type; of several of one type the last."""
    return dict(attribute_list(data))


def parsed(
    source: str, kinds: Collection[int], data: bytes, parse: Callable[[bytes], T]
) -> Iterator[tuple[T | ParseError, Source]]:
    """What the messages of these kinds in the answer `source` say, or that one makes no sense, and where each
    stands."""
    for message in messages(data):
        if message.kind not in kinds:
            continue
        place = Source(source, message.offset, message.offset + HEADER.size + len(message.body))
        try:
            yield parse(message.body), place
        except (struct.error, ValueError):
            yield ParseError(f"a message of {source} makes no sense: {message.body[:24].hex()}"), place
