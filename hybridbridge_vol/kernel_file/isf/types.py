"""BTF types in Volatility's ISF (schema 6.2.0): base types, structs and unions, enums, descriptors of
fields."""

from __future__ import annotations

from typing import Any

from hybridbridge_vol.kernel_file.btf import Btf, BtfType, Kind, Member

JsonObject = dict[str, Any]
"""An object of the JSON that Volatility's schema describes."""
Descriptor = JsonObject
"""A type, as the schema describes it."""

VOID: Descriptor = {"kind": "base", "name": "void"}
_POINTER_SIZE = 8
_MAX_NESTING = 32
"""Pointers to arrays of pointers to …; real types nest five deep."""
_SIGNED, _BOOL = 1, 4
_AGGREGATES = {Kind.STRUCT: "struct", Kind.UNION: "union"}
_ENUMS = (Kind.ENUM, Kind.ENUM64)


class IsfTypes:
    """The types of one kernel: `base_types`, `user_types` and `enums` of its table.

    Of several types of one name the first keeps it, and the others are called NAME___2 and so on. A struct
    that is only declared has the name of the one that is defined, and is empty if there is none. A type
    without a name has that of its typedef.
    """

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._names: dict[int, str] = {}
        self._defined: dict[str, int] = {}
        self.base_types: JsonObject = {
            "void": _base(0, False, "void"),
            "pointer": _base(_POINTER_SIZE, False, "int"),
        }
        self.user_types: JsonObject = {}
        self.enums: JsonObject = {}
        self.variables: dict[str, Descriptor] = {}
        """Variables that BTF describes: the per-CPU ones."""
        self._name_all()
        self._convert_all()

    def struct(self, name: str) -> Descriptor | None:
        """The struct or union of a name; None if the kernel has none."""
        kind = self.user_types[name]["kind"] if name in self.user_types else None
        return {"kind": kind, "name": name} if kind else None

    def base(self, name: str) -> Descriptor | None:
        """The base type of a name; None if the kernel has none."""
        return {"kind": "base", "name": name} if name in self.base_types else None

    def struct_with(self, fields: set[str]) -> Descriptor | None:
        """The first struct that has all of these fields; None if there is none."""
        for name, struct in self.user_types.items():
            if fields <= struct["fields"].keys():
                return {"kind": struct["kind"], "name": name}
        return None

    def size_of(self, descriptor: Descriptor) -> int:
        """Bytes of a struct, union, base type or pointer; 0 for anything else."""
        kind, name = descriptor["kind"], descriptor.get("name", "")
        known = self.base_types if kind == "base" else self.user_types
        return _POINTER_SIZE if kind == "pointer" else known.get(name, {}).get("size", 0)

    # --- names --------------------------------------------------------------------------------------------

    def _name_all(self) -> None:
        taken: dict[str, int] = {}
        typedefs = self._typedefs()
        for number, found in enumerate(self._btf.types):
            if found.kind in _AGGREGATES or found.kind in _ENUMS:
                name = found.name or typedefs.get(number) or f"unnamed_{number}"
                space = "enum " + name if found.kind in _ENUMS else name
                taken[space] = taken.get(space, 0) + 1
                self._names[number] = name if taken[space] == 1 else f"{name}___{taken[space]}"
                self._defined.setdefault(space, number)

    def _typedefs(self) -> dict[int, str]:
        """Names that typedefs give to structs, unions and enums without a name, where no other type has
        them."""
        tagged = {found.name for found in self._btf.types if found.kind is not Kind.TYPEDEF}
        names: dict[int, str] = {}
        for found in self._btf.types:
            if found.kind is Kind.TYPEDEF and found.name not in tagged:
                names.setdefault(found.type, found.name)
        return names

    def _convert_all(self) -> None:
        for number, found in enumerate(self._btf.types):
            if found.kind in (Kind.INT, Kind.FLOAT):
                self._add_base(found)
            elif found.kind in _ENUMS:
                base = self._enum_base(found)
                constants = dict(found.constants)
                self.enums[self._names[number]] = {"size": found.size, "base": base, "constants": constants}
            elif found.kind in _AGGREGATES:
                self.user_types[self._names[number]] = {
                    "kind": _AGGREGATES[found.kind],
                    "size": found.size,
                    "fields": dict(self._field(index, member) for index, member in enumerate(found.members)),
                }
            elif found.kind is Kind.FWD and found.name not in self._defined:
                kind = "union" if found.flag else "struct"
                self.user_types.setdefault(found.name, {"kind": kind, "size": 0, "fields": {}})
            elif found.kind is Kind.VAR:
                self.variables[found.name] = self.describe(found.type)

    def _add_base(self, found: BtfType) -> None:
        encoding = found.encoding >> 24
        kind = "int"
        if found.kind is Kind.FLOAT:
            kind = "float"
        elif encoding & _BOOL:
            kind = "bool"
        elif found.size == 1 and "char" in found.name:
            kind = "char"
        signed = bool(encoding & _SIGNED) or found.kind is Kind.FLOAT
        self.base_types.setdefault(found.name, _base(found.size, signed, kind))

    def _enum_base(self, found: BtfType) -> str:
        signed = found.flag or any(value < 0 for _name, value in found.constants)
        name = {1: "char", 2: "short int", 4: "int", 8: "long int"}.get(found.size, "int")
        if not signed:
            name = {"char": "unsigned char", "short int": "short unsigned int", "int": "unsigned int"}.get(
                name, "long unsigned int"
            )
        self.base_types.setdefault(name, _base(found.size, signed, "char" if found.size == 1 else "int"))
        return name

    # --- descriptors --------------------------------------------------------------------------------------

    def describe(self, number: int, depth: int = 0) -> Descriptor:
        """The descriptor of the type of a number; `void` for what nests deeper than `_MAX_NESTING`."""
        number = self._btf.plain(number)
        found = self._btf[number]
        if depth > _MAX_NESTING:
            return VOID
        if found.kind in (Kind.INT, Kind.FLOAT):
            return {"kind": "base", "name": found.name}
        if found.kind is Kind.PTR:
            return {"kind": "pointer", "subtype": self.describe(found.type, depth + 1)}
        if found.kind is Kind.ARRAY:
            return {"kind": "array", "count": found.count, "subtype": self.describe(found.type, depth + 1)}
        if found.kind in _ENUMS:
            return {"kind": "enum", "name": self._names[number]}
        if found.kind in _AGGREGATES:
            return {"kind": _AGGREGATES[found.kind], "name": self._names[number]}
        if found.kind is Kind.FWD:
            defined = self._btf[self._defined.get(found.name, 0)].kind
            kind = _AGGREGATES.get(defined, "union" if found.flag else "struct")
            return {"kind": kind, "name": found.name}
        return {"kind": "function"} if found.kind is Kind.FUNC_PROTO else VOID

    def _field(self, index: int, member: Member) -> tuple[str, JsonObject]:
        descriptor = self.describe(member.type)
        bits, bit_offset = member.bits, member.bit_offset
        plain = self._btf[self._btf.plain(member.type)]
        if plain.kind is Kind.INT and not bits and plain.encoding & 0xFF not in (0, plain.size * 8):
            # kernels that do not mark bit fields in the struct: the type itself is narrow
            bits, bit_offset = plain.encoding & 0xFF, bit_offset + (plain.encoding >> 16 & 0xFF)
        if bits and plain.size and descriptor["kind"] in ("base", "enum"):
            unit = plain.size * 8
            descriptor = {
                "kind": "bitfield",
                "bit_position": bit_offset % unit,
                "bit_length": bits,
                "type": descriptor,
            }
            return member.name or f"unnamed_field_{index}", {
                "type": descriptor,
                "offset": bit_offset // unit * plain.size,
            }
        field = {"type": descriptor, "offset": bit_offset // 8}
        if not member.name and descriptor["kind"] in ("struct", "union"):
            field["anonymous"] = True
        return member.name or f"unnamed_field_{index}", field


def _base(size: int, signed: bool, kind: str) -> JsonObject:
    return {"size": size, "signed": signed, "kind": kind, "endian": "little"}
