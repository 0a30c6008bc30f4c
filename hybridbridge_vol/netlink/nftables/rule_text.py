"""A rule as nft writes it, read from the kernel's expressions (nftables 1.0.6, src/netlink_delinearize.c).

The expressions work on registers; what each holds is followed here. nft adds comparisons that the kernel
needs and nobody wrote (`meta l4proto tcp` before `tcp dport 22`), and leaves them out again when it lists the
rule, if what follows says the same. An expression that is not known here stays in the text by its name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.netlink.nftables.data_types import ETHER, INTEGER, IPV4, IPV6, Names, duration, quoted
from hybridbridge_vol.netlink.nftables.dependencies import Dependencies
from hybridbridge_vol.netlink.nftables.headers import NETWORK, TRANSPORT
from hybridbridge_vol.netlink.nftables.loads import (
    ct_part,
    exthdr_part,
    hash_part,
    is_symmetric_hash,
    meta_part,
    payload_part,
    simple_part,
    source_register,
    target_register,
)
from hybridbridge_vol.netlink.nftables.matches import (
    EQ,
    address_prefix,
    binary_text,
    comparison,
    expanded,
    range_comparison,
    shifted,
    trimmed,
)
from hybridbridge_vol.netlink.nftables.messages import Expression, number, parse_data
from hybridbridge_vol.netlink.nftables.set_text import Kinds
from hybridbridge_vol.netlink.nftables.statements import plain_text, reject_text, unknown_text
from hybridbridge_vol.netlink.nftables.translations import TRANSLATIONS, translation_text
from hybridbridge_vol.netlink.nftables.values import Part, Value, padded, values_text, verdict_text

SetText = Callable[[str, Kinds], str]
"""What is written of a set by its name: `@name`, or the elements of one without a name of its own; with the
types of what is looked up."""
_OBJECTS = {
    1: "counter", 2: "quota", 4: "limit", 3: "ct helper set", 7: "ct timeout set", 8: "meta secmark set",
    9: "ct expectation set", 10: "synproxy",
}  # fmt: skip
_HANDLED = frozenset((
    "payload", "meta", "ct", "exthdr", "immediate", "byteorder", "hash", "bitwise", "cmp", "range",
    "lookup", "objref",
    "dynset", "reject",
))  # fmt: skip
"""Expressions that have a method of their name."""
_LTE, _GTE = 3, 5
_MOST_WORDS = 20
"""Registers of 4 bytes: NFT_REG32_15 is the last."""


def rule_text(
    family: int,
    sets: Mapping[str, nft.Set],
    set_text: SetText,
    names: Names,
    expressions: Sequence[Expression],
) -> str:
    """A rule of a family (NFPROTO_*); its expressions as they are where they make no sense together."""
    try:
        return _RuleText(family, sets, set_text, names).of(expressions)
    except (ValueError, IndexError, KeyError, OverflowError, struct.error):
        return " ".join(plain_text(each) or unknown_text(each) for each in expressions)


class _RuleText:
    """One rule while it is read. `sets` are those of its table, `set_text` writes one, `names` is the name
    of an interface."""

    def __init__(self, family: int, sets: Mapping[str, nft.Set], set_text: SetText, names: Names) -> None:
        self._family = family
        self._sets = sets
        self._set_text = set_text
        self.names = names
        self._registers: dict[int, Value] = {}
        self._statements: list[str | None] = []
        self._dependencies = Dependencies(family, self._statements)
        self._begun: tuple[Value, bytes] | None = None

    def of(self, expressions: Sequence[Expression]) -> str:
        """The statements of a rule."""
        for one in expressions:
            self._take(one)
        return " ".join(text for text in self._statements if text is not None)

    def _say(self, text: str) -> int:
        self._statements.append(text)
        return len(self._statements) - 1

    def _key_size(self, name: str) -> int:
        """Bytes of the keys of a set; 0 if it is not known."""
        return self._sets[name].key_size if name in self._sets else 0

    def _object_kind(self, name: str) -> int:
        return self._sets[name].object_type if name in self._sets else 0

    # --- registers ----------------------------------------------------------------------------------------

    def _word(self, register: int) -> int:
        return (register - 1) * 4 if 1 <= register <= 4 else register - 8

    def _get(self, register: int, size: int = 0) -> Value:
        """What a register holds; several joined, if one does not fill `size` bytes."""
        word = self._word(register)
        value = self._registers.get(word, Value((Part(f"[register {register}]", INTEGER, size),)))
        if not size or value.size >= size or value.data is not None:
            return value
        parts = list(value.parts)
        at = word + padded(value.size) // 4
        while sum(padded(part.size) for part in parts) < size and len(parts) < _MOST_WORDS:
            following = self._registers.get(at)
            if following is None or not following.parts:
                break
            parts += following.parts
            at += padded(following.size) // 4
        return replace(value, parts=tuple(parts))

    def _put(self, register: int, value: Value) -> None:
        self._registers[self._word(register)] = value

    # --- expressions --------------------------------------------------------------------------------------

    def _take(self, one: Expression) -> None:
        stored = source_register(one.kind, one.data)
        if stored is not None:
            self._say(self._assignment(one, stored))
            return
        if one.kind in TRANSLATIONS:
            self._translate(one.kind, one.data)
            return
        handler = getattr(self, f"_{one.kind}", None) if one.kind in _HANDLED else None
        if handler is not None:
            handler(one.data)
            return
        target, part = target_register(one.kind, one.data), simple_part(one.kind, one.data)
        if target is not None and part is not None:
            self._put(target, Value((part,)))
            return
        self._say(plain_text(one) or unknown_text(one))

    def _payload(self, data: nft.Attributes) -> None:
        self._put(number(data.get(1)), Value((payload_part(data, self._dependencies.headers),)))

    def _meta(self, data: nft.Attributes) -> None:
        self._put(number(data.get(1)), Value((meta_part(number(data.get(2))),)))

    def _ct(self, data: nft.Attributes) -> None:
        self._put(number(data.get(1)), Value((ct_part(data),)))

    def _exthdr(self, data: nft.Attributes) -> None:
        if 1 in data:
            self._put(number(data.get(1)), Value((exthdr_part(data),)))
        else:
            self._say(f"reset {exthdr_part(data | {5: bytes([0, 0, 0, 1])}).text}")

    def _immediate(self, data: nft.Attributes) -> None:
        value = parse_data(data.get(2))
        if value is None:
            self._say(unknown_text(Expression("immediate", data)))
        elif number(data.get(1)) == 0 and value.value is None:
            self._say(verdict_text(value))
        else:
            self._put(number(data.get(1)), Value(data=value))

    def _byteorder(self, data: nft.Attributes) -> None:
        value = self._get(number(data.get(1)))
        is_host = bool(value.parts) and value.parts[0].type.is_host
        self._put(number(data.get(2)), replace(value, swapped=is_host and not value.swapped))

    def _hash(self, data: nft.Attributes) -> None:
        hashed = None
        if not is_symmetric_hash(data):
            value = self._get(number(data.get(1)), number(data.get(3)))
            self._dependencies.used(value)
            hashed = value.text
        self._put(number(data.get(2)), Value((hash_part(data, hashed),)))

    def _bitwise(self, data: nft.Attributes) -> None:
        value = self._get(number(data.get(1)), number(data.get(3)))
        operation = number(data.get(6))
        if operation:
            shift = parse_data(data.get(7))
            sign = {1: "<<", 2: ">>"}.get(operation, f"op-{operation}")
            amount = int.from_bytes(shift.value or b"", "little") if shift else 0
            value = replace(value, suffix=f"{value.suffix} {sign} {amount}")
        else:
            mask, xor = parse_data(data.get(4)), parse_data(data.get(5))
            value = replace(value, mask=mask.value if mask else None, xor=xor.value if xor else None)
        self._put(number(data.get(2)), value)

    def _cmp(self, data: nft.Attributes) -> None:
        constant = parse_data(data.get(3))
        value = self._get(number(data.get(1)), len(constant.value or b"") if constant else 0)
        if constant is None or constant.value is None or not value.parts:
            self._say(unknown_text(Expression("cmp", data)))
            return
        operator, content = number(data.get(2)), constant.value
        inner = trimmed(value, self._dependencies.headers) if value.mask is not None else None
        if inner is not None:
            value, content = inner[0], shifted(content, inner[1], inner[0].parts[0].size)
        value, content = address_prefix(value, content) or (value, content)
        if self._is_range(value, operator, content):
            return
        self._begun = (value, content) if operator == _GTE else None
        for each, its in expanded(value, content, self._dependencies.headers):
            self._match(each, operator, its)

    def _is_range(self, value: Value, operator: int, content: bytes) -> bool:
        """Whether this is the second comparison of `>= low` and `<= high`, which are written as one."""
        begun, self._begun = self._begun, None
        if begun is None or operator != _LTE or begun[0] != value:
            return False
        self._statements[-1] = range_comparison(value, EQ, begun[1], content, self.names)
        return True

    def _match(self, value: Value, operator: int, content: bytes) -> None:
        part = value.parts[0]
        self._dependencies.used(value)
        if operator == EQ and value.mask is None and len(value.parts) == 1:
            self._dependencies.learn(part, content)
        at = self._say(comparison(value, operator, content, self.names))
        if operator == EQ and value.mask is None and len(value.parts) == 1:
            self._dependencies.note(part, at)

    def _range(self, data: nft.Attributes) -> None:
        value = self._get(number(data.get(1)))
        low, high = parse_data(data.get(3)), parse_data(data.get(4))
        self._dependencies.used(value)
        ends = [(end.value if end else None) or b"" for end in (low, high)]
        self._say(range_comparison(value, number(data.get(2)), ends[0], ends[1], self.names))

    def _lookup(self, data: nft.Attributes) -> None:
        name, inverted = nft.name(data.get(1)), number(data.get(5)) & 1
        value = self._get(number(data.get(2)), self._key_size(name))
        inner = trimmed(value, self._dependencies.headers) if value.mask is not None else None
        value = inner[0] if inner else value
        self._dependencies.used(value)
        text = self._set_text(name, [(part.type, part.size) for part in value.parts])
        if 3 not in data:
            self._say(f"{value.text} {'!= ' if inverted else ''}{text}")
        elif number(data[3]) == 0:
            self._say(f"{value.text} vmap {text}")
        else:
            found = Value((replace(value.parts[0], text=f"{value.text} map {text}", origin="map"),))
            size = self._sets[name].data_size if name in self._sets else 0
            first = self._word(number(data[3]))
            for word in range(first, first + max(1, min(padded(size) // 4, _MOST_WORDS))):
                self._registers[word] = found

    def _objref(self, data: nft.Attributes) -> None:
        found = number(data.get(1)) or (self._object_kind(nft.name(data[4])) if 4 in data else 0)
        kind = _OBJECTS.get(found, "object")
        word = "name " if kind in ("counter", "quota", "limit", "synproxy") else ""
        if 4 in data:
            value = self._get(number(data.get(3)), self._key_size(nft.name(data[4])))
            self._dependencies.used(value)
            text = self._set_text(nft.name(data[4]), [(part.type, part.size) for part in value.parts])
            self._say(f"{kind} {word}{value.text} map {text}")
        else:
            self._say(f"{kind} {word}{quoted(nft.name(data.get(2)))}")

    def _dynset(self, data: nft.Attributes) -> None:
        name, operation = (
            nft.name(data.get(1)),
            {0: "add", 1: "update", 2: "delete"}.get(number(data.get(3)), "?"),
        )
        value = self._get(number(data.get(4)), self._key_size(name))
        self._dependencies.used(value)
        text = value.text
        made = nft.expressions(data.get(10)) or ((nft.expression(data[7]),) if 7 in data else ())
        text += "".join(f" {plain_text(each) or unknown_text(each)}" for each in made)
        if number(data.get(6)):
            text += f" timeout {duration(number(data[6]))}"
        if 5 in data:
            text += f" : {self._operand(self._get(number(data[5])), None)}"
        self._say(f"{operation} @{name} {{ {text} }}")

    def _reject(self, data: nft.Attributes) -> None:
        kind = number(data.get(1))
        if kind == 1:
            self._dependencies.drop(TRANSPORT)
        elif kind == 0 and self._family not in (nft.IP, nft.IP6):
            self._dependencies.drop(NETWORK)
        self._say(reject_text(data, self._family, self._dependencies.network))

    def _translate(self, kind: str, data: nft.Attributes) -> None:
        def operand(register: int | None, type_name: str) -> str | None:
            return None if register is None else self._operand(self._get(register), type_name)

        self._say(translation_text(kind, data, self._family, operand))
        self._dependencies.drop(NETWORK)

    # --- what is assigned ---------------------------------------------------------------------------------

    def _assignment(self, one: Expression, register: int) -> str:
        data, value = one.data, self._get(register)
        if one.kind == "payload":
            target = Value((payload_part({2: data[2], 3: data[3], 4: data[4]}, self._dependencies.headers),))
            return self._payload_assignment(target, value)
        if one.kind == "exthdr":
            part = exthdr_part(data)
        else:
            part = meta_part(number(data.get(2))) if one.kind == "meta" else ct_part(data)
        return f"{part.text} set {self._operand(value, part)}"

    def _payload_assignment(self, target: Value, value: Value) -> str:
        """A field that is not whole bytes is masked out, and the new bits are put in by xor."""
        part = target.parts[0]
        self._dependencies.used(target)
        if value.mask is not None and value.parts and value.parts[0].origin == "payload":
            everything = (1 << 8 * len(value.mask)) - 1
            cleared = (int.from_bytes(value.mask, "big") ^ everything).to_bytes(len(value.mask), "big")
            inner = trimmed(Value((part,), mask=cleared, xor=bytes(len(cleared))), self._dependencies.headers)
            if inner is not None:
                whole = (value.xor or b"").rjust(len(cleared), b"\0")
                content = shifted(whole, inner[1], inner[0].parts[0].size)
                field = inner[0].parts[0]
                return f"{field.text} set {values_text(content, [(field.type, field.size)], self.names)}"
        return f"{part.text} set {self._operand(value, part)}"

    def _operand(self, value: Value, like: Part | str | None) -> str:
        """The right side of an assignment: a constant of the type of the left one, or an expression."""
        if value.data is not None:
            return self._constant(value.data, like)
        return binary_text(value, self.names) if value.mask is not None else value.text

    def _constant(self, data: nft.Data, like: Part | str | None) -> str:
        content = data.value or b""
        if isinstance(like, Part):
            return values_text(content[: like.size], [(like.type, like.size)], self.names)
        kind = {"address": IPV4 if len(content) == 4 else IPV6, "ether": ETHER}.get(like or "")
        if like == "interface":
            return quoted(self.names(int.from_bytes(content[:4], "little")))
        if kind is None:
            return str(int.from_bytes(content[:2] if like == "port" else content, "big"))
        return values_text(content, [(kind, len(content))], self.names)
