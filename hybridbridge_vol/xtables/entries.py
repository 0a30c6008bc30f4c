"""The entries of a table of iptables or ip6tables (include/uapi/linux/netfilter_ipv4/ip_tables.h,
netfilter_ipv6/ip6_tables.h, netfilter/x_tables.h; the same from 5.10 to 7.2).

A table is one block of entries. Each of the kernel's own chains begins at the offset of its hook and ends
with the entry that is its policy; a chain of a user's begins with an entry whose target is `ERROR` and
names it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.procfs.pid import text

PF_INET, PF_INET6 = 2, 10
GET_INFO, GET_ENTRIES = 64, 65
"""IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES; IP6T_SO_ have the same numbers."""
INFO_SIZE, ENTRIES_HEAD = 84, 40
"""Bytes of struct ipt_getinfo, and of struct ipt_get_entries before the entries."""
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_INFO = struct.Struct("<32sI5I5III")
_NAME_SIZE = 32
MOST_ENTRIES = 1 << 20
"""Of one table."""
_HEAD = 32
"""Bytes of struct xt_entry_match and xt_entry_target before their data."""
_ERROR = "ERROR"
GOTO, FRAGMENT = 2, 1
"""IPT_F_*."""
INVERTED_IN, INVERTED_OUT, INVERTED_SOURCE, INVERTED_DESTINATION, INVERTED_FRAGMENT, INVERTED_PROTOCOL = (
    1, 2, 8, 0x10, 0x20, 0x40,
)  # fmt: skip
"""IPT_INV_*."""


class TableInfo(NamedTuple):
    """struct ipt_getinfo: offsets of the hooks' first entries, and of their policies, by hook."""

    valid_hooks: int
    begins: tuple[int, ...]
    policies: tuple[int, ...]
    entries: int
    size: int


def info_request(table: str) -> bytes:
    """The beginning of both structures: the table's name."""
    return table.encode("utf-8", "surrogateescape")[: _NAME_SIZE - 1].ljust(_NAME_SIZE, b"\0")


def entries_request(table: str, size: int) -> bytes:
    """struct ipt_get_entries for a table of so many bytes."""
    return info_request(table) + struct.pack("<I", size)


def parse_info(data: bytes) -> TableInfo:
    """ParseError if it is cut off."""
    if len(data) < _INFO.size:
        raise ParseError("struct ipt_getinfo is cut off")
    _name, hooks, *numbers = _INFO.unpack_from(data)
    return TableInfo(hooks, tuple(numbers[:5]), tuple(numbers[5:10]), numbers[10], numbers[11])


class Part(NamedTuple):
    """A match or target: `data` is its kind's own."""

    name: str
    revision: int
    data: bytes


class Entry(NamedTuple):
    """A rule. Addresses and masks as bytes; interfaces end in `+` if they are the beginning of a name."""

    offset: int
    source: bytes
    source_mask: bytes
    destination: bytes
    destination_mask: bytes
    incoming: str
    outgoing: str
    protocol: int
    flags: int
    inverted: int
    matches: tuple[Part, ...]
    target: Part
    packets: int
    bytes: int

    @property
    def verdict(self) -> int | None:
        """Of a standard target: negative for an end, else the offset to jump to."""
        if self.target.name or len(self.target.data) < 4:
            return None
        return int(struct.unpack_from("<i", self.target.data)[0])

    @property
    def chain_name(self) -> str | None:
        """The name of the chain that begins here."""
        return text(self.target.data.split(b"\0")[0]) if self.target.name == _ERROR else None


class _Layout(NamedTuple):
    """Where a family has its fields: size of an address, offsets of the rest."""

    address: int
    protocol: int
    flags: int
    targets: int
    counters: int
    parts: int


_LAYOUTS = {PF_INET: _Layout(4, 80, 82, 88, 96, 112), PF_INET6: _Layout(16, 128, 131, 140, 152, 168)}


def entries(family: int, data: bytes) -> Iterator[Entry]:
    """The entries in their order. ParseError if one leads out of the block."""
    layout = _LAYOUTS[family]
    offset = 0
    for _number in range(MOST_ENTRIES):
        if offset >= len(data):
            return
        entry, size = _entry(layout, data, offset)
        yield entry
        offset += size
    raise ParseError(f"a table of more than {MOST_ENTRIES} entries")


def _entry(layout: _Layout, data: bytes, offset: int) -> tuple[Entry, int]:
    if offset + layout.parts > len(data):
        raise ParseError(f"the entry at {offset} is cut off")
    target_at, size = struct.unpack_from("<HH", data, offset + layout.targets)
    if not layout.parts <= target_at <= size - _HEAD or offset + size > len(data):
        raise ParseError(f"the entry at {offset} has no sense")
    own = data[offset : offset + size]
    width = layout.address
    addresses = [own[at : at + width] for at in range(0, 4 * width, width)]
    names = 4 * width
    incoming, outgoing = (text(own[at : at + 16].split(b"\0")[0]) for at in (names, names + 16))
    (protocol,) = struct.unpack_from("<H", own, layout.protocol)
    packets, octets = struct.unpack_from("<QQ", own, layout.counters)
    entry = Entry(
        offset, addresses[0], addresses[2], addresses[1], addresses[3], incoming, outgoing, protocol,
        own[layout.flags], own[layout.flags + 1], tuple(_matches(own, layout.parts, target_at)),
        _part(own, target_at, size), packets, octets,
    )  # fmt: skip
    return entry, size


def _part(own: bytes, at: int, end: int) -> Part:
    name = own[at + 2 : at + 31].split(b"\0")[0]
    return Part(text(name), own[at + 31], own[at + _HEAD : end])


def _matches(own: bytes, at: int, end: int) -> Iterator[Part]:
    while at + _HEAD <= end:
        (size,) = struct.unpack_from("<H", own, at)
        if size < _HEAD or at + size > end:
            raise ParseError("a match leads out of its entry")
        yield _part(own, at, at + size)
        at += size


class Chain(NamedTuple):
    """`policy` is None of a chain of a user's; the counters are those of the policy."""

    name: str
    policy: str | None
    packets: int
    bytes: int
    rules: tuple[Entry, ...]


VERDICTS = {-1: "DROP", -2: "ACCEPT", -4: "QUEUE", -5: "RETURN"}


def chains(info: TableInfo, found: list[Entry]) -> tuple[list[Chain], dict[int, str]]:
    """The chains, the kernel's own first, others by name; and the names of chains by the offset to jump
    to."""
    own = {info.begins[hook]: HOOKS[hook] for hook in range(len(HOOKS)) if info.valid_hooks >> hook & 1}
    policies = {info.policies[hook] for hook in range(len(HOOKS)) if info.valid_hooks >> hook & 1}
    kernels: list[Chain] = []
    users: list[Chain] = []
    names: dict[int, str] = {}
    name, rules, is_own = "", list[Entry](), False

    def end() -> None:
        """A user's chain ends with a return that nobody wrote."""
        if name and not is_own:
            users.append(Chain(name, None, 0, 0, tuple(rules[:-1])))

    for index, entry in enumerate(found):
        if entry.chain_name is not None:
            end()
            last = index == len(found) - 1
            name, rules, is_own = "" if last else entry.chain_name, [], False
            if not last:
                names[found[index + 1].offset] = name
            continue
        if entry.offset in own:
            end()
            name, rules, is_own = own[entry.offset], [], True
        if is_own and entry.offset in policies:
            policy = VERDICTS.get(entry.verdict or 0, "?")
            kernels.append(Chain(name, policy, entry.packets, entry.bytes, tuple(rules)))
            name, is_own = "", False
            continue
        rules.append(entry)
    end()
    return kernels + sorted(users, key=lambda chain: chain.name), names


def network_text(address: bytes, mask: bytes) -> str:
    """`10.0.0.0/8`; a mask that is no prefix is written as an address."""
    bits = f"{int.from_bytes(mask, 'big'):0{8 * len(mask)}b}".rstrip("0")
    return f"{address_text(address)}/{address_text(mask) if '0' in bits else len(bits)}"
