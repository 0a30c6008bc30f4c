"""The rules and the state of audit (include/uapi/linux/audit.h, kernel/auditfilter.c, `audit_krule_to_data`),
and rules as auditctl(8) lists them."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.requests import NETLINK_AUDIT, NetlinkRequest
from hybridbridge_vol.procfs.sources import Source

_AUDIT_GET, _AUDIT_LIST_RULES = 1000, 1013
RULES = NetlinkRequest("audit rules", NETLINK_AUDIT, _AUDIT_LIST_RULES, b"")
STATE = NetlinkRequest("audit state", NETLINK_AUDIT, _AUDIT_GET, b"", is_list=False)
MAX_FIELDS, _MASK_WORDS = 64, 64
"""AUDIT_MAX_FIELDS, AUDIT_BITMASK_SIZE."""
_HEAD, _ARRAY = struct.Struct("<3I"), struct.Struct(f"<{MAX_FIELDS}I")
_SIZE = _HEAD.size + 4 * _ARRAY.size + 4
_STATE = struct.Struct("<10I")
_STATE_NAMES = (
    "", "enabled", "failure", "pid", "rate_limit", "backlog_limit", "lost", "backlog", "",
    "backlog_wait_time",
)  # fmt: skip
"""Of struct audit_status: what auditctl -s shows."""
_LISTS = ("user", "task", "entry", "watch", "exit", "exclude", "filesystem", "io_uring")
_LIST_MASK, _EXIT, _IO_URING = 7, 4, 7
_ACTIONS = ("never", "possible", "always")
_OPERATORS = {
    0x08000000: "&", 0x10000000: "<", 0x20000000: ">", 0x30000000: "!=", 0x40000000: "=", 0x48000000: "&=",
    0x50000000: "<=", 0x60000000: ">=",
}  # fmt: skip
_FIELDS = {
    0: "pid", 1: "uid", 2: "euid", 3: "suid", 4: "fsuid", 5: "gid", 6: "egid", 7: "sgid", 8: "fsgid",
    9: "auid", 10: "pers", 11: "arch", 12: "msgtype", 13: "subj_user", 14: "subj_role", 15: "subj_type",
    16: "subj_sen", 17: "subj_clr", 18: "ppid", 19: "obj_user", 20: "obj_role", 21: "obj_type",
    22: "obj_lev_low", 23: "obj_lev_high", 24: "loginuid_set", 25: "sessionid", 26: "fstype",
    100: "devmajor", 101: "devminor", 102: "inode", 103: "exit", 104: "success", 105: "path", 106: "perm",
    107: "dir", 108: "filetype", 109: "obj_uid", 110: "obj_gid", 112: "exe", 113: "saddr_fam",
    200: "a0", 201: "a1", 202: "a2", 203: "a3", 210: "key",
}  # fmt: skip
_ARCH, _FILE_SYSTEM, _EXIT_CODE, _PATH, _PERM, _DIR, _COMPARE, _KEY = 11, 26, 103, 105, 106, 107, 111, 210
_TEXTS = (*range(13, 18), *range(19, 24), _PATH, _DIR, 112, _KEY)
"""Fields whose value is the size of a text; the texts follow one another."""
_IN_HEX = (200, 201, 202, 203)
_ARCHITECTURES = {0xC000003E: "b64", 0x40000003: "b32"}
"""AUDIT_ARCH_X86_64, AUDIT_ARCH_I386."""
_PERMISSIONS = ((4, "r"), (2, "w"), (1, "x"), (8, "a"))
_FILE_SYSTEMS = {0x64626720: "debugfs", 0x74726163: "tracefs"}
"""Those that auditctl names (DEBUGFS_MAGIC, TRACEFS_MAGIC)."""
_COMPARISONS = (
    "", "uid obj_uid", "gid obj_gid", "euid obj_uid", "egid obj_gid", "auid obj_uid", "suid obj_uid",
    "sgid obj_gid", "fsuid obj_uid", "fsgid obj_gid", "uid auid", "uid euid", "uid fsuid", "uid suid",
    "auid fsuid", "auid suid", "auid euid", "euid suid", "euid fsuid", "suid fsuid", "gid egid", "gid fsgid",
    "gid sgid", "egid fsgid", "egid sgid", "sgid fsgid",
)  # fmt: skip
"""AUDIT_COMPARE_*."""
_KEY_SEPARATOR = "\x01"


class RuleField(NamedTuple):
    """What a rule asks: the number of a field, the operator, and a number or a text."""

    kind: int
    operator: str
    value: int | str


class AuditRule(NamedTuple):
    """`calls` are numbers of system calls, None all of them."""

    list_name: str
    action: str
    calls: tuple[int, ...] | None
    fields: tuple[RuleField, ...]


def rules(data: bytes) -> Iterator[tuple[AuditRule | ParseError, Source]]:
    """The rules in the answer to `RULES`, in the order in which they are asked."""
    return parsed(RULES.source, (_AUDIT_LIST_RULES,), data, _rule)


def state(data: bytes) -> Iterator[tuple[dict[str, int] | ParseError, Source]]:
    """The state of audit in the answer to `STATE`, by auditctl's names."""
    return parsed(STATE.source, (_AUDIT_GET,), data, _state)


def _state(body: bytes) -> dict[str, int]:
    if len(body) < _STATE.size:
        raise ValueError("the state of audit is too short")
    return {name: value for name, value in zip(_STATE_NAMES, _STATE.unpack_from(body), strict=True) if name}


def _rule(body: bytes) -> AuditRule:
    if len(body) < _SIZE:
        raise ValueError("a rule of audit is too short")
    flags, action, count = _HEAD.unpack_from(body)
    if count > MAX_FIELDS or action >= len(_ACTIONS):
        raise ValueError("a rule of audit has more fields than there can be, or no known action")
    mask, kinds, values, operators = (
        _ARRAY.unpack_from(body, _HEAD.size + number * _ARRAY.size) for number in range(4)
    )
    at = _SIZE
    fields = []
    for kind, value, operator in zip(kinds[:count], values, operators, strict=False):
        found: int | str = value
        if kind in _TEXTS:
            if at + value > len(body):
                raise ValueError("a text in a rule of audit is not whole")
            found = body[at : at + value].decode("utf-8", "surrogateescape")
            at += value
        fields.append(RuleField(kind, _OPERATORS.get(operator, f"?{operator:#x}?"), found))
    # the last word stands for classes of calls, which a rule that was taken has no more
    calls = tuple(bit for bit in range(32 * (_MASK_WORDS - 1)) if mask[bit // 32] >> bit % 32 & 1)
    is_for_all = len(calls) == 32 * (_MASK_WORDS - 1)
    return AuditRule(
        _LISTS[flags & _LIST_MASK], _ACTIONS[action], None if is_for_all else calls, tuple(fields)
    )


# --- as auditctl lists them -------------------------------------------------------------------------------


def rule_text(rule: AuditRule, call_name: Callable[[int], str]) -> str:
    """A rule as `auditctl -l` prints it, but for the calls of arch b32 and the types of messages: they are
    numbers, which auditctl takes, too. `call_name` gives the name of a system call of x86-64, empty if it has
    none."""
    if _is_watch(rule):
        return _watch_text(rule)
    words = [f"-a {rule.action},{rule.list_name}"]
    arch = next((field for field in rule.fields if field.kind == _ARCH), None)
    if arch is not None:
        words.append(_field_text(arch))
    if rule.list_name in (_LISTS[_EXIT], _LISTS[_IO_URING]):
        has_names = arch is None or _ARCHITECTURES.get(int(arch.value)) == "b64"
        names = ["all"] if rule.calls is None else [has_names and call_name(n) or str(n) for n in rule.calls]
        words += [f"-S {','.join(names)}"] if names else []
    return " ".join([*words, *(_field_text(field) for field in rule.fields if field.kind != _ARCH)])


def _is_watch(rule: AuditRule) -> bool:
    """Whether auditctl shows a rule as one that was made with -w."""
    kinds = {field.kind for field in rule.fields}
    is_general = rule.list_name == _LISTS[_EXIT] and rule.action == "always" and rule.calls is None
    return (
        is_general and bool(kinds & {_PATH, _DIR}) and _PERM in kinds and kinds <= {_PATH, _DIR, _PERM, _KEY}
    )


def _watch_text(rule: AuditRule) -> str:
    options = {_PATH: "-w", _DIR: "-w", _PERM: "-p", _KEY: "-k"}
    words: list[str] = []
    for field in rule.fields:
        for value in _value(field).split(_KEY_SEPARATOR):
            words.append(f"{options[field.kind]} {value}")
    return " ".join(words)


def _field_text(field: RuleField) -> str:
    if field.kind == _COMPARE:
        number = int(field.value)
        pair = _COMPARISONS[number].split() if 0 < number < len(_COMPARISONS) else ("?", str(number))
        return f"-C {field.operator.join(pair)}"
    name = _FIELDS.get(field.kind, f"f{field.kind}")
    values: Sequence[str] = [_value(field)]
    if field.kind == _KEY:
        values = values[0].split(_KEY_SEPARATOR)
    return " ".join(f"-F {name}{field.operator}{value}" for value in values)


def _value(field: RuleField) -> str:
    """The value of a field, numbers by their names."""
    value = field.value
    if isinstance(value, str):
        return value
    if field.kind == _ARCH:
        return _ARCHITECTURES.get(value, f"{value:#x}")
    if field.kind == _FILE_SYSTEM:
        return _FILE_SYSTEMS.get(value, f"{value:#x}")
    if field.kind == _PERM:
        return "".join(letter for bit, letter in _PERMISSIONS if value & bit)
    if field.kind in _IN_HEX:
        return f"{value:#X}".replace("0X", "0x")
    signed = value - (1 << 32) if value >> 31 else value
    if field.kind == _EXIT_CODE and signed < 0 and -signed in errno.errorcode:
        return f"-{errno.errorcode[-signed]}"
    return str(signed)
