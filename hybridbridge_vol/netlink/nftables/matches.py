"""Comparisons as nft writes them: `tcp dport != 22`, `ct state established,related`, `ip saddr
10.0.0.0/8`."""

from __future__ import annotations

from hybridbridge_vol.netlink.nftables.data_types import IPV4, IPV6, RAW, DataType, Names, order, value_text
from hybridbridge_vol.netlink.nftables.headers import HEADERS, LINK, extension_field, fields_in
from hybridbridge_vol.netlink.nftables.loads import payload_bits
from hybridbridge_vol.netlink.nftables.values import Part, Value, prefix_length, range_text, values_text

EQ, NEQ = 0, 1
OPERATORS = {EQ: "", NEQ: "!= ", 2: "< ", 3: "<= ", 4: "> ", 5: ">= "}
"""NFT_CMP_*."""


def expanded(value: Value, data: bytes, headers: dict[int, str]) -> list[tuple[Value, bytes]]:
    """A comparison of bits in which several fields lie, as one for each of them."""
    part = value.parts[0]
    if part.origin != "payload" or len(value.parts) != 1 or part.type is not RAW or value.mask is not None:
        return [(value, data)]
    fields = fields_in(part.header, part.start, part.bits) if part.header else []
    if len(fields) < 2:
        return [(value, data)]
    whole = int.from_bytes(data, "big")
    shift = 112 if part.base == LINK and part.header == "vlan" else 0
    found = []
    end = part.start + part.bits
    for field in fields:
        number = whole >> end - field.start - field.size & (1 << field.size) - 1
        found.append(
            (
                Value((payload_bits(part.base, field.start + shift, field.size, headers),)),
                number.to_bytes((field.size + 7) // 8, "big"),
            )
        )
    return found


def trimmed(value: Value, headers: dict[int, str]) -> tuple[Value, int] | None:
    """The field that a mask leaves of bits of a packet, and by how many bits data must be shifted; None if
    there is none."""
    part = value.parts[0]
    if part.origin not in ("payload", "exthdr") or value.mask is None or value.xor is None or any(value.xor):
        return None
    mask = int.from_bytes(value.mask, "big")
    if not mask:
        return None
    shift = (mask & -mask).bit_length() - 1
    size = (mask >> shift).bit_length()
    if mask >> shift != (1 << size) - 1:
        return None
    outer = 112 if part.base == LINK and part.header == "vlan" else 0
    start = part.start + 8 * len(value.mask) - shift - size
    if part.origin == "exthdr":
        text, kind = extension_field(part.base, part.key, start, size)
        if "@" in text:
            return None
        return Value(
            (Part(text, kind, (size + 7) // 8, base=part.base, origin="exthdr", key=part.key),)
        ), shift
    inner = payload_bits(part.base, start + outer, size, headers)
    return None if inner.type is RAW else (Value((inner,)), shift)


def shifted(data: bytes, shift: int, size: int) -> bytes:
    """Data of the bits that `trimmed` leaves."""
    return (int.from_bytes(data, "big") >> shift).to_bytes(size, "big")


def address_prefix(value: Value, data: bytes) -> tuple[Value, bytes] | None:
    """A comparison of the first bytes of an address, as one of the address with a mask; None if it is
    none."""
    part = value.parts[0]
    if part.origin != "payload" or part.type is not RAW or not part.header or value.mask is not None:
        return None
    for field in HEADERS[part.header]:
        if field.start == part.start and part.bits < field.size and field.type in (IPV4, IPV6):
            size = field.size // 8
            outer = 112 if part.base == LINK and part.header == "vlan" else 0
            whole = payload_bits(part.base, part.start + outer, field.size, {part.base: part.header})
            mask = (b"\xff" * part.size).ljust(size, b"\0")
            return Value((whole,), mask=mask, xor=bytes(size)), data.ljust(size, b"\0")
    return None


def comparison(value: Value, operator: int, data: bytes, names: Names) -> str:
    """`data` as the kernel compares it with what the register holds."""
    if value.swapped:
        data = data[::-1]
    sign = OPERATORS.get(operator, f"op-{operator} ")
    if value.mask is not None and len(value.parts) == 1:
        return _masked(value, operator, data, names)
    if len(value.parts) > 1:
        return (
            f"{value.text} {sign}{values_text(data, [(part.type, part.size) for part in value.parts], names)}"
        )
    return f"{value.text} {sign}{_constant(value.parts[0], data, names)}"


def _constant(part: Part, data: bytes, names: Names) -> str:
    if part.type.name == "ifname" and len(data) < 16 and b"\0" not in data:
        return value_text(part.type, data, names)
    if part.type is RAW:
        return f"0x{data.hex().lstrip('0') or '0'}"
    return value_text(part.type, data, names)


def _masked(value: Value, operator: int, data: bytes, names: Names) -> str:
    part, mask = value.parts[0], value.mask or b""
    kind = part.type
    if value.xor is not None and any(value.xor):
        return (
            f"{binary_text(value, names)} {OPERATORS.get(operator) or '== '}{value_text(kind, data, names)}"
        )
    if kind.name in ("ipv4_addr", "ipv6_addr", "ether_addr"):
        length = prefix_length(mask)
        if length is not None:
            return f"{part.text} {OPERATORS[operator]}{value_text(kind, data, names)}/{length}"
    if kind.name == "ct_label" and not any(data):
        bits = int.from_bytes(mask, "little")
        labels = ",".join(str(bit) for bit in range(8 * len(mask)) if bits >> bit & 1)
        return f"{part.text} {'' if operator == NEQ else '! '}{labels}"
    if kind.flags is not None:
        return _flags(part, kind, operator, mask, data, names)
    left = f"{part.text} & {mask_text(kind, mask, names)}"
    return f"{left} {OPERATORS.get(operator) or '== '}{mask_text(kind, data, names)}"


def _flags(part: Part, kind: DataType, operator: int, mask: bytes, data: bytes, names: Names) -> str:
    def joined(value: bytes) -> str:
        return value_text(replace_separator(kind), value, names)

    if not any(data):
        bits = order(mask, kind.is_host)
        if operator == NEQ:
            if kind.name == "tcp_flag":
                return f"{part.text} {joined(mask)}"
            return f"{part.text} {joined(mask)}"
        return f"{part.text} ! {joined(mask)}" if bits else part.text
    sign = "!= " if operator == NEQ else ""
    return f"{part.text} {sign}{joined(data)} / {joined(mask)}"


def replace_separator(kind: DataType) -> DataType:
    """Flags of a comparison are joined by commas."""
    return kind._replace(separator=",")


def mask_text(kind: DataType, data: bytes, names: Names) -> str:
    """A mask, or what is compared with it: integers in decimal."""
    return value_text(kind, data, names)


def binary_text(value: Value, names: Names) -> str:
    """What was done to a register: `(x & mask) ^ xor`, as `&`, `|` and `^`."""
    part = value.parts[0]
    mask, xor = value.mask or b"", value.xor or b""
    size, is_host = len(mask), part.type.is_host
    m, x = order(mask, is_host), order(xor, is_host)
    everything = (1 << 8 * size) - 1
    either = ~m & x & everything
    m, x = m | either, x & ~either & everything
    text = value.text

    def number(bits: int) -> str:
        return value_text(part.type, bits.to_bytes(size, "little" if is_host else "big"), names)

    if m != everything:
        text += f" & {number(m)}"
    if x:
        text += f" ^ {number(x)}"
    if either:
        text += f" | {number(either)}"
    return text


def range_comparison(value: Value, operator: int, low: bytes, high: bytes, names: Names) -> str:
    """`tcp sport 1000-2000`."""
    sign = "!= " if operator == NEQ else ""
    kind = value.parts[0].type
    if value.swapped:
        low, high = low[::-1], high[::-1]
    if kind.name in ("ipv4_addr", "ipv6_addr"):
        return f"{value.text} {sign}{value_text(kind, low, names)}-{value_text(kind, high, names)}"
    return f"{value.text} {sign}{range_text(low, high, kind, names)}"
