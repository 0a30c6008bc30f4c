"""The redirection policy as data (`symbols/*.toml`), matched against one kernel's symbols."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hybridbridge_vol.kernel_file.symbols import plain_name

ACTIONS = (
    "home", "return", "argument", "free", "halt", "twin", "jump", "lock", "seize", "owner",
    "allocate", "release", "marked", "log", "note", "wait", "unlock",
)  # fmt: skip
BY_OWNER = ("free", "owner", "allocate", "release", "marked")
"""Actions whose code looks itself at whose object an argument is."""
JUMP_SIZE, FREE_SIZE = 5, 19
"""Bytes of the code of a jump, and of "free" (see trampolines.py)."""
_NEEDED_BYTES = {
    "home": JUMP_SIZE, "jump": JUMP_SIZE, "free": FREE_SIZE, "return": 6, "argument": 4, "halt": 2,
    "lock": 19, "seize": 10, "owner": 24, "allocate": 80, "release": 48, "marked": 45, "log": 64,
    "note": 48,
    "wait": 16, "unlock": 16,
}  # fmt: skip
"""How large a function must be for the code of its trampoline (see trampolines.py)."""
LONGEST_TRAMPOLINE = max(_NEEDED_BYTES.values())
_RETURN_ZERO_BYTES = 3

_KEYS = frozenset(("subsystem", "why", "action", "names", "value", "argument", "side", "trusted", "target"))
_SIDES = ("twin", "both")
_WITH_TARGET, _MAY_HAVE_TARGET = ("jump", "lock", "allocate", "release"), ("owner", "marked", "log")


class Rule(NamedTuple):
    """One `[[rule]]` of the policy; see the head of `symbols/linux.toml`."""

    subsystem: str
    action: str
    names: tuple[str, ...]
    value: int = 0
    argument: int = 0
    both_sides: bool = False
    trusted: tuple[int, ...] = ()
    target: str = ""


class Policy(NamedTuple):
    """All rules in order, and the digest of the text they come from. `snapshot_constants`: variables whose
    values are immediates of the text and must be the snapshot's in the twin."""

    rules: tuple[Rule, ...]
    digest: str
    snapshot_constants: tuple[str, ...] = ()


class Trampoline(NamedTuple):
    """What stands at one function's entry. `offset` is its distance from `_text`; bit i of `trusted` says
    that argument i, counted from 0, must be the trusted kernel's own. `value`: what is returned, which
    argument is freed, or which bits are set. `target`: the offset of the function that is run instead."""

    offset: int
    action: str
    value: int = 0
    both_sides: bool = False
    trusted: int = 0
    target: int = 0


class Resolution(NamedTuple):
    """A policy matched against a kernel: the trampolines, and the name patterns that matched nothing."""

    trampolines: list[Trampoline]
    unmatched: list[str]


@cache
def policy_folder() -> Path:
    """Where the policy as shipped lies: in the package `hybridbridge_vol.symbols`, or in the source tree's
    `symbols`."""
    package = Path(__file__).resolve().parents[2]
    return next(folder for folder in (package / "symbols", package.parent / "symbols") if folder.is_dir())


def policy_text() -> bytes:
    """The policy as shipped."""
    return b"".join(item.read_bytes() for item in sorted(policy_folder().glob("*.toml")))


def policy_digest() -> str:
    """Identifies a policy: what was derived from another one is not used."""
    return hashlib.sha256(policy_text()).hexdigest()[:16]


def load_policy() -> Policy:
    """Parse the shipped policy."""
    import tomllib  # only when a kernel is prepared: takes 9 ms

    document = tomllib.loads(policy_text().decode())
    constants = tuple(name for entry in document["snapshot_constants"] for name in entry["names"])
    return Policy(tuple(_rule(entry) for entry in document["rule"]), policy_digest(), constants)


def _rule(entry: dict[str, Any]) -> Rule:
    """One rule as tomllib gives it. ValueError for what the head of the policy does not describe."""
    for what, value, known in (
        ("action", entry["action"], ACTIONS),
        ("side", entry.get("side", "twin"), _SIDES),
        *(("key", key, _KEYS) for key in entry),
    ):
        if value not in known:
            raise ValueError(f"policy: unknown {what} {value!r} in a rule of {entry['subsystem']!r}")
    if entry["action"] not in _MAY_HAVE_TARGET and (entry["action"] in _WITH_TARGET) != ("target" in entry):
        actions = " or ".join(map(repr, _WITH_TARGET))
        raise ValueError(f"policy: a target goes with {actions}, in a rule of {entry['subsystem']!r}")
    if entry["action"] == "log" and "target" in entry and entry.get("argument"):
        raise ValueError(f"policy: an iterator is the third argument, in a rule of {entry['subsystem']!r}")
    return Rule(
        entry["subsystem"],
        entry["action"],
        tuple(entry["names"]),
        entry.get("value", 0),
        entry.get("argument", 0),
        entry.get("side") == "both",
        tuple(entry.get("trusted", ())),
        entry.get("target", ""),
    )


def resolve(policy: Policy, functions: Iterable[tuple[int, int, str]]) -> Resolution:
    """Match the policy against `(offset from _text, size, symbol)` of every function of a kernel.

    Of several rules for one function the last one counts. A function that is too small to hold the
    trampoline's code keeps its original code (it is too small to do harm: a `ret` or a tail jump).
    """
    by_name: dict[str, list[tuple[int, int]]] = {}
    for offset, size, symbol in functions:
        if ".cold" not in symbol:
            by_name.setdefault(plain_name(symbol), []).append((offset, size))
    ascending = sorted(by_name)
    chosen: dict[int, Trampoline] = {}
    unmatched: list[str] = []
    for rule in policy.rules:
        target = next(_matching(rule.target, ascending), None) if rule.target else ""
        target_offset = by_name[target][0][0] if target else 0
        for pattern in rule.names:
            names = list(_matching(pattern, ascending))
            if not names:
                unmatched.append(pattern)
            if target is None:
                continue  # another kernel's function: what an earlier rule says holds
            for name in names:
                for offset, size in by_name[name]:
                    _choose(chosen, rule, offset, size, target_offset)
    return Resolution([chosen[offset] for offset in sorted(chosen)], unmatched)


def _matching(pattern: str, names: list[str]) -> Iterator[str]:
    """Those of the ascending `names` that match as a whole; only names that begin with the pattern's literal
    prefix are tried."""
    prefix = re.match(r"[\w$]*", pattern)[0]  # type: ignore[index]
    if prefix != pattern and pattern[len(prefix)] in "?*{":
        prefix = prefix[:-1]
    matches = re.compile(pattern).fullmatch
    for index in range(bisect_left(names, prefix), len(names)):
        if not names[index].startswith(prefix):
            return
        if matches(names[index]):
            yield names[index]


def _choose(
    chosen: dict[int, Trampoline],
    rule: Rule,
    offset: int,
    size: int,
    target: int,
) -> None:
    if rule.action == "twin":
        chosen.pop(offset, None)
        return
    is_zero = rule.action == "return" and rule.value == 0
    if size >= (_RETURN_ZERO_BYTES if is_zero else _NEEDED_BYTES[rule.action]):
        value = rule.argument if rule.action in (*BY_OWNER, "log", "wait") else rule.value
        trusted = sum(1 << argument for argument in rule.trusted)
        chosen[offset] = Trampoline(offset, rule.action, value, rule.both_sides, trusted, target)
