"""Address translation, and what sends packets elsewhere, in nft's syntax (nftables 1.0.6,
src/statement.c)."""

from __future__ import annotations

from collections.abc import Callable

from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.netlink.nftables.messages import Attributes, number

Operand = Callable[[int | None, str], str | None]
"""What a register holds: an "address", a "port" or an "interface"."""
_RANDOM, _PERSISTENT, _FULLY = 4, 8, 16
_NETMAP = 64
"""NF_NAT_RANGE_*."""
_FAMILIES = {2: "ip", 10: "ip6"}


def _flags(flags: int) -> str:
    names = ((_RANDOM, "random"), (_FULLY, "fully-random"), (_PERSISTENT, "persistent"))
    found = ",".join(name for bit, name in names if flags & bit)
    return f" {found}" if found else ""


def _span(low: str | None, high: str | None) -> str:
    return f"{low}-{high}" if high is not None and high != low else low or ""


def _optional(data: Attributes, kind: int) -> int | None:
    return number(data[kind]) if kind in data else None


def translation_text(kind: str, data: Attributes, family: int, operand: Operand) -> str:
    """One statement of `kind` nat, masq, redir, tproxy, dup or fwd."""
    return TRANSLATIONS[kind](data, family, operand)


def _nat(data: Attributes, family: int, operand: Operand) -> str:
    word = {0: "snat", 1: "dnat"}.get(number(data.get(1)), "nat")
    flags = number(data.get(7))
    address = _span(operand(_optional(data, 3), "address"), operand(_optional(data, 4), "address"))
    port = _span(operand(_optional(data, 5), "port"), operand(_optional(data, 6), "port"))
    prefix = " prefix" if flags & _NETMAP else ""
    is_map = " map " in address
    if address and (family == nft.INET or is_map and (prefix or port)):
        word += f" {_FAMILIES[number(data.get(2))]}" if number(data.get(2)) in _FAMILIES else ""
    target = address if is_map else _with_port(address, port)
    return word + prefix + (f" to {target}" if target else "") + _flags(flags)


def _with_port(address: str, port: str) -> str:
    if port and ":" in address:
        address = "-".join(f"[{end}]" for end in address.split("-"))
    return address + (f":{port}" if port else "")


def _masq(data: Attributes, _family: int, operand: Operand) -> str:
    port = _span(operand(_optional(data, 2), "port"), operand(_optional(data, 3), "port"))
    return "masquerade" + (f" to :{port}" if port else "") + _flags(number(data.get(1)))


def _redir(data: Attributes, _family: int, operand: Operand) -> str:
    port = _span(operand(_optional(data, 1), "port"), operand(_optional(data, 2), "port"))
    return "redirect" + (f" to :{port}" if port else "") + _flags(number(data.get(3)))


def _tproxy(data: Attributes, family: int, operand: Operand) -> str:
    its_family = number(data.get(1))
    address, port = operand(_optional(data, 2), "address") or "", operand(_optional(data, 3), "port")
    text = "tproxy" + (f" {_FAMILIES[its_family]}" if family == nft.INET and its_family in _FAMILIES else "")
    address = f"[{address}]" if ":" in address else address
    return f"{text} to {address}" + (f":{port}" if port else "")


def _dup(data: Attributes, _family: int, operand: Operand) -> str:
    to, device = operand(_optional(data, 1), "address"), operand(_optional(data, 2), "interface")
    if not to:  # of the family netdev: `netlink_parse_dup`, src/netlink_delinearize.c
        return f"dup to {device}"
    return f"dup to {to}" + (f" device {device}" if device else "")


def _fwd(data: Attributes, _family: int, operand: Operand) -> str:
    device, address = operand(_optional(data, 1), "interface"), operand(_optional(data, 2), "address")
    if address:
        its_family = _FAMILIES.get(number(data.get(3)), "")
        return f"fwd {its_family} to {address} device {device}"
    return f"fwd to {device}"


TRANSLATIONS: dict[str, Callable[[Attributes, int, Operand], str]] = {
    "nat": _nat,
    "masq": _masq,
    "redir": _redir,
    "tproxy": _tproxy,
    "dup": _dup,
    "fwd": _fwd,
}
"""By the kernel's names of the expressions."""
