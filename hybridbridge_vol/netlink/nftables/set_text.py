"""Sets, maps and their elements in nft's syntax (nftables 1.0.6, src/rule.c, src/segtree.c)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.netlink.nftables.data_types import (
    HOST_INTEGER,
    INTEGER,
    DataType,
    Names,
    duration,
    quoted,
    types_of,
)
from hybridbridge_vol.netlink.nftables.messages import Element, Expression, Set
from hybridbridge_vol.netlink.nftables.typeof_text import typeof_text
from hybridbridge_vol.netlink.nftables.values import range_text, size_of, split, values_text, verdict_text

Kinds = list[tuple[DataType, int]]
Stateful = Callable[[Expression], str]
"""The text of an expression that an element has: a counter, a limit ..."""
_VERDICT_TYPE = 0xFFFFFF00
"""NFT_DATA_VERDICT."""
_KEY_ORDER, _DATA_ORDER, _MERGE, _KEY_TYPEOF, _DATA_TYPEOF, _DATA_INTERVAL, _COMMENT = 0, 1, 2, 3, 4, 6, 7
"""What nft keeps with a set (libnftnl, NFTNL_UDATA_SET_*)."""
_HOST = 1
FLAG_NAMES = (
    (nft.CONSTANT, "constant"),
    (nft.EVAL, "dynamic"),
    (nft.INTERVAL, "interval"),
    (nft.TIMEOUT, "timeout"),
)
OBJECT_KINDS = {
    1: "counter", 2: "quota", 3: "ct helper", 4: "limit", 5: "connlimit", 6: "tunnel", 7: "ct timeout",
    8: "secmark",
    9: "ct expectation", 10: "synproxy",
}  # fmt: skip
"""NFT_OBJECT_*."""


def _ordered(kinds: list[DataType], order: bytes | None) -> list[DataType]:
    is_host = order is not None and int.from_bytes(order, "little") == _HOST
    return [HOST_INTEGER if kind is INTEGER and is_host else kind for kind in kinds]


def key_kinds(found: Set, like: Kinds | None = None) -> Kinds:
    """The types of its keys, with their sizes in bytes; where nft keeps none, those of the values that are
    looked up."""
    kinds = _ordered(types_of(found.key_type), found.user_data.get(_KEY_ORDER))
    if like is not None and len(like) == len(kinds):
        return like
    if len(kinds) == 1:
        return [(kinds[0], found.key_size)]
    return [
        (kind, found.fields[index] if index < len(found.fields) else size_of(kind))
        for index, kind in enumerate(kinds)
    ]


def data_kinds(found: Set) -> Kinds:
    """The types of what its keys lead to."""
    kinds = _ordered(types_of(found.data_type), found.user_data.get(_DATA_ORDER))
    return [(kinds[0], found.data_size)] if len(kinds) == 1 else [(kind, size_of(kind)) for kind in kinds]


def type_text(found: Set) -> str:
    """`type ipv4_addr : verdict`, or by `typeof`."""
    key = typeof_text(found.user_data.get(_KEY_TYPEOF))
    written = "type" if key is None else "typeof"
    text = key or " . ".join(kind.name for kind in types_of(found.key_type))
    if found.flags & nft.OBJECT:
        return f"{written} {text} : {OBJECT_KINDS.get(found.object_type, found.object_type)}"
    if not found.flags & nft.MAP:
        return f"{written} {text}"
    data = typeof_text(found.user_data.get(_DATA_TYPEOF)) if key else None
    if data is None:
        is_verdict = found.data_type == _VERDICT_TYPE
        data = "verdict" if is_verdict else " . ".join(kind.name for kind in types_of(found.data_type))
    return f"{written} {text} : {'interval ' * _is_data_interval(found)}{data}"


def set_lines(found: Set, stateful: Stateful) -> list[str]:
    """What stands in it before its elements."""
    lines = [type_text(found)]
    if found.size:
        lines.append(f"size {found.size}")
    lines += [stateful(each).partition(" packets")[0] for each in found.expressions]
    flags = [name for bit, name in FLAG_NAMES if found.flags & bit]
    if flags and not (found.timeout and flags == ["timeout"]):
        lines.append(f"flags {','.join(flags)}")
    if found.user_data.get(_MERGE, b"")[:1] not in (b"", b"\0"):
        lines.append("auto-merge")
    if found.timeout:
        lines.append(f"timeout {duration(found.timeout)}")
    if found.gc_interval:
        lines.append(f"gc-interval {duration(found.gc_interval)}")
    if _COMMENT in found.user_data:
        lines.append(f"comment {quoted(nft.name(found.user_data[_COMMENT]))}")
    return lines


def elements_text(
    found: Set, elements: Sequence[Element], names: Names, stateful: Stateful, like: Kinds | None = None
) -> list[str]:
    """Its elements, in nft's order."""
    kinds = key_kinds(found, like)
    if found.flags & nft.INTERVAL and len(kinds) == 1:
        pairs = _intervals(elements, kinds[0][0], kinds[0][1], names)
    elif any(element.key_end is not None for element in elements):
        pairs = [(_joined_ranges(each, kinds, names), each) for each in elements]
    else:
        ordered = _sorted(list(elements), kinds)
        pairs = [("*" if each.key is None else values_text(each.key, kinds, names), each) for each in ordered]
    return [_element(text, element, found, names, stateful) for text, element in pairs]


def _sorted(elements: list[Element], kinds: Kinds) -> list[Element]:
    """In nft's order, whose sort by merging puts equal ones of the second half first (src/mergesort.c)."""
    if len(elements) < 2:
        return elements
    middle = (len(elements) + 1) // 2
    first, second = _sorted(elements[:middle], kinds), _sorted(elements[middle:], kinds)
    return [each for _key, _half, each in heapq.merge(
        ((_sort_key(each, kinds), 1, each) for each in first),
        ((_sort_key(each, kinds), 0, each) for each in second),
        key=lambda item: item[:2],
    )]  # fmt: skip


def _sort_key(element: Element, kinds: Kinds) -> tuple[bool, int]:
    """nft sorts joined keys as numbers in the byte order of the machine, others in that of their type; names
    of flags by the lowest."""
    key = element.key or b""
    if len(kinds) > 1:
        return element.key is None, int.from_bytes(key, "little")
    kind = kinds[0][0]
    number = int.from_bytes(key, "little" if kind.is_host or kind.name in ("ifname", "string") else "big")
    return (
        element.key is None,
        number & -number if kind.flags is not None and kind.separator != "," else number,
    )


def _intervals(
    elements: Sequence[Element], kind: DataType, size: int, names: Names
) -> list[tuple[str, Element]]:
    """Ranges out of their beginnings and the ends behind them, in ascending order."""

    def order(element: Element) -> int:
        return int.from_bytes(element.key or b"", "big")

    found = []
    ordered = sorted(
        (each for each in elements if each.key is not None),
        key=lambda each: (order(each), not each.flags & 1),
    )
    for index, element in enumerate(ordered):
        if element.flags & nft.INTERVAL_END:
            continue
        after = ordered[index + 1] if index + 1 < len(ordered) else None
        high = (1 << 8 * size) - 1 if after is None else order(after) - 1
        low = element.key or b""
        ends = (
            (low[::-1], high.to_bytes(size, "big")[::-1])
            if kind.is_host
            else (low, high.to_bytes(size, "big"))
        )
        found.append((range_text(*ends, kind, names), element))
    return found + [("*", each) for each in elements if each.flags & nft.CATCHALL]


def _joined_ranges(element: Element, kinds: Kinds, names: Names) -> str:
    lows = split(element.key or b"", kinds)
    highs = lows if element.key_end is None else split(element.key_end, kinds)
    return " . ".join(
        range_text(low, high, kind, names) for (kind, _), low, high in zip(kinds, lows, highs, strict=False)
    )


def _element(text: str, element: Element, found: Set, names: Names, stateful: Stateful) -> str:
    text = " ".join([text, *map(stateful, element.expressions)])
    if element.timeout is not None:
        text += f" timeout {duration(element.timeout)}"
    if element.expires is not None:
        text += f" expires {duration(element.expires)}"
    if element.comment is not None:
        text += f" comment {quoted(element.comment)}"
    if element.object is not None:
        return f"{text} : {quoted(element.object)}"
    if element.data is None:
        return text
    if element.data.value is None:
        return f"{text} : {verdict_text(element.data)}"
    return f"{text} : {_data_text(element.data.value, found, names)}"


def _data_text(data: bytes, found: Set, names: Names) -> str:
    kinds = data_kinds(found)
    if not _is_data_interval(found):
        return values_text(data, kinds, names)
    half = len(data) // 2
    if len(kinds) == 1:
        kinds = [(kinds[0][0], half)]
    ends = (split(part, kinds) for part in (data[:half], data[half:]))
    return " . ".join(
        range_text(low, high, kind, names) for (kind, _), low, high in zip(kinds, *ends, strict=False)
    )


def _is_data_interval(found: Set) -> bool:
    return any(found.user_data.get(_DATA_INTERVAL, b""))
