"""Where structures of a kernel have their fields, by its BTF: of a few of them, without decoding all types.

`kernel_file.btf` has the format. Here one pass finds where each type begins and which have names; members are
decoded of those structures that are asked for.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.btf import ALIASES, Kind

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC, _VERSION = 0xEB9F, 1
_MAX_TYPES = 1 << 20
_MAX_CHAIN = 64
"""Typedefs and qualifiers that lead to one another, and structures without a name inside each other."""
_TYPE_WORDS = 3
_FIXED_WORDS: dict[int, int] = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
_WORDS_EACH: dict[int, int] = {
    Kind.STRUCT: 3, Kind.UNION: 3, Kind.ENUM: 2, Kind.FUNC_PROTO: 2, Kind.DATASEC: 3, Kind.ENUM64: 3,
}  # fmt: skip
"""32-bit words behind the three of each type: once, or for each member."""
_AGGREGATES = (Kind.STRUCT, Kind.UNION)


class Field(NamedTuple):
    """A member. `offset` in bytes from the start of the structure, `bit` what is left of its offset in bits;
    `bits` the width of a bit field, otherwise 0; `type` the number of its type."""

    name: str
    offset: int
    bit: int
    bits: int
    type: int


class Number(NamedTuple):
    """How a member is read that is a number: `size` bytes at `offset` from the start of the structure, of
    which the bits of `mask` count from bit `bit` on."""

    offset: int
    size: int
    bit: int
    mask: int


class StructLayouts:
    """The structures of one kernel. `data` is its `.BTF`, `name` the file in messages. KernelFileError if it
    is damaged."""

    def __init__(self, data: bytes, name: str) -> None:
        self._damaged = KernelFileError(f"{name}: its type information (BTF) is damaged; fetch it again")
        if len(data) < _HEADER.size:
            raise self._damaged
        magic, version, _flags, head, type_at, type_size, text_at, text_size = _HEADER.unpack_from(data)
        start, text = head + type_at, head + text_at
        if (magic, version) != (_MAGIC, _VERSION) or max(start + type_size, text + text_size) > len(data):
            raise self._damaged
        self._words = memoryview(data)[start : start + type_size // 4 * 4].cast("I")
        self._text = data[text : text + text_size]
        self._starts = array("I", [0])
        self._named: dict[int, int] = {}
        self._numbers: dict[str, int | None] = {}
        self._found: dict[tuple[str, str], Field] = {}
        self._members: dict[str, tuple[Field, ...]] = {}
        self._functions: dict[str, dict[str, int]] = {}
        self._numbered: dict[tuple[str, str], Number] = {}
        self._lacking: set[tuple[str, str]] = set()
        self._scan()

    def _scan(self) -> None:
        words, at, end = self._words, 0, len(self._words)
        fixed = [_FIXED_WORDS.get(kind, 0) for kind in range(32)]
        each = [_WORDS_EACH.get(kind, 0) for kind in range(32)]
        starts, aggregates = self._starts, array("I")
        while at + _TYPE_WORDS <= end and len(starts) <= _MAX_TYPES:
            info = words[at + 1]
            kind = info >> 24 & 31
            if kind in (4, 5) and words[at]:
                aggregates.append(len(starts))
            starts.append(at)
            at += _TYPE_WORDS + fixed[kind] + each[kind] * (info & 0xFFFF)
        if at != end:
            raise self._damaged
        for number in aggregates:
            self._named.setdefault(words[starts[number]], number)

    # --- what is asked ------------------------------------------------------------------------------------

    def has(self, struct_name: str, path: str = "") -> bool:
        """Whether there is such a structure, with such a member."""
        if not path:
            return self._number(struct_name) is not None
        if (struct_name, path) in self._lacking:
            return False
        try:
            self.field(struct_name, path)
        except LookupError:
            self._lacking.add((struct_name, path))
            return False
        return True

    def offset(self, struct_name: str, path: str) -> int:
        """Bytes from the start of a structure to a member (`a.b`: of a member); LookupError."""
        return self.field(struct_name, path).offset

    def field(self, struct_name: str, path: str) -> Field:
        """A member of a structure, or of one inside of it (`a.b`), also through ones without a name;
        LookupError."""
        found = self._found.get((struct_name, path))
        if found is None:
            number = self._number(struct_name)
            found = None if number is None else self._find(number, path)
            if found is None:
                raise LookupError(f"this kernel has no {struct_name}.{path}")
            self._found[struct_name, path] = found
        return found

    def number(self, struct_name: str, path: str) -> Number:
        """Where a member that is a number or a pointer stands, and how it is read; LookupError."""
        found = self._numbered.get((struct_name, path))
        if found is None:
            field = self.field(struct_name, path)
            if field.bits:
                size = (field.bit + field.bits + 7) // 8
                found = Number(field.offset, size, field.bit, (1 << field.bits) - 1)
            else:
                size = min(self.bytes_of(field.type), 8)
                found = Number(field.offset, size, 0, (1 << 8 * size) - 1)
            self._numbered[struct_name, path] = found
        return found

    def size(self, struct_name: str) -> int:
        """Bytes of a structure; LookupError."""
        return self.bytes_of(self._known(struct_name))

    def members(self, struct_name: str) -> tuple[Field, ...]:
        """The members of a structure, those of members without a name too; LookupError."""
        if struct_name not in self._members:
            self._members[struct_name] = tuple(self._flat(self._known(struct_name), 0, 0))
        return self._members[struct_name]

    def bytes_of(self, number: int) -> int:
        """The size of a type of that number."""
        number, count = self._plain(number), 1
        for _ in range(_MAX_CHAIN):
            kind = self._kind(number)
            if kind == Kind.ARRAY:
                at = self._starts[number]
                count *= self._words[at + 5]
                number = self._plain(self._words[at + 3])
            else:
                return count * (8 if kind == Kind.PTR else self._refers(number))
        return 0

    def struct_of(self, number: int) -> str:
        """The name of the structure that a type is, or that it is a pointer to or an array of; empty if it is
        none."""
        for _ in range(_MAX_CHAIN):
            number = self._plain(number)
            kind = self._kind(number)
            if kind in _AGGREGATES:
                return self._name(self._words[self._starts[number]])
            if kind not in (Kind.PTR, Kind.ARRAY):
                return ""
            number = self._refers(number) if kind == Kind.PTR else self._words[self._starts[number] + 3]
        return ""

    def functions(self, struct_name: str) -> dict[str, int]:
        """The members that are pointers to functions: offset by name. LookupError."""
        if struct_name not in self._functions:
            self._functions[struct_name] = {
                field.name: field.offset
                for field in self.members(struct_name)
                if self.is_function_pointer(field.type)
            }
        return self._functions[struct_name]

    def is_function_pointer(self, number: int) -> bool:
        """Whether a type is a pointer to a function."""
        number = self._plain(number)
        return (
            self._kind(number) == Kind.PTR
            and self._kind(self._plain(self._refers(number))) == Kind.FUNC_PROTO
        )

    def count(self, struct_name: str, path: str) -> int:
        """The number of elements of a member that is an array; LookupError."""
        number = self._plain(self.field(struct_name, path).type)
        if self._kind(number) != Kind.ARRAY:
            raise LookupError(f"{struct_name}.{path} is not an array")
        return self._words[self._starts[number] + 5]

    # --- types --------------------------------------------------------------------------------------------

    def _known(self, struct_name: str) -> int:
        number = self._number(struct_name)
        if number is None:
            raise LookupError(f"this kernel has no struct {struct_name}")
        return number

    def _number(self, name: str) -> int | None:
        if name not in self._numbers:
            self._numbers[name] = self._search(name)
        return self._numbers[name]

    def _search(self, name: str) -> int | None:
        raw = name.encode("latin-1")
        at = self._text.find(b"\0" + raw + b"\0")
        while at >= 0:
            number = self._named.get(at + 1)
            if number is not None:
                return number
            at = self._text.find(b"\0" + raw + b"\0", at + 1)
        return None

    def _name(self, at: int) -> str:
        return self._text[at : self._text.find(b"\0", at)].decode("latin-1")

    def _kind(self, number: int) -> int:
        return self._words[self._starts[number] + 1] >> 24 & 31 if 0 < number < len(self._starts) else 0

    def _refers(self, number: int) -> int:
        """The size of a type, or the number of the one that it refers to."""
        return self._words[self._starts[number] + 2] if 0 < number < len(self._starts) else 0

    def _plain(self, number: int) -> int:
        """What typedefs and qualifiers lead to; 0 where they are cyclic."""
        for _ in range(_MAX_CHAIN):
            if self._kind(number) not in ALIASES:
                return number
            number = self._refers(number)
        return 0

    def _fields(self, number: int) -> Iterator[Field]:
        at = self._starts[number]
        info = self._words[at + 1]
        for entry in range(at + _TYPE_WORDS, at + _TYPE_WORDS + 3 * (info & 0xFFFF), 3):
            name_at, type_, place = self._words[entry], self._words[entry + 1], self._words[entry + 2]
            # with the flag, the upper 8 bits are a bit field's width
            bit, bits = (place & 0xFFFFFF, place >> 24) if info >> 31 else (place, 0)
            yield Field(self._name(name_at), bit // 8, bit % 8, bits, type_)

    def _flat(self, number: int, base: int, depth: int) -> Iterator[Field]:
        for field in self._fields(number):
            inner = self._plain(field.type)
            if field.name or self._kind(inner) not in _AGGREGATES:
                yield field._replace(offset=base + field.offset)
            elif depth < _MAX_CHAIN:
                yield from self._flat(inner, base + field.offset, depth + 1)

    def _find(self, number: int, path: str) -> Field | None:
        base = 0
        found: Field | None = None
        for name in path.split("."):
            if found is not None:
                base, number = found.offset, self._plain(found.type)
            if self._kind(number) not in _AGGREGATES:
                return None
            found = next((field for field in self._flat(number, base, 0) if field.name == name), None)
            if found is None:
                return None
        return found
