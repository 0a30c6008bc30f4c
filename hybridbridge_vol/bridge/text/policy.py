"""The redirection policy as data (`symbols/*.toml`), matched against one kernel's symbols."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ACTIONS = ("home", "return", "argument", "free", "halt", "twin", "jump")
JUMP_SIZE = 5
_COMPILER_SUFFIX = re.compile(r"\.(part|isra|constprop|llvm)\..*$")
_FREE_STUB_SIZE = 19
_NEEDED = {
    "home": JUMP_SIZE,
    "jump": JUMP_SIZE,
    "free": _FREE_STUB_SIZE,
    "return": 6,
    "argument": 4,
    "halt": 2,
}
"""Bytes that a trampoline takes."""


@dataclass(frozen=True)
class Rule:
    """One `[[rule]]` of the policy; see the head of `symbols/linux.toml`."""

    subsystem: str
    action: str
    names: tuple[str, ...]
    value: int = 0
    argument: int = 0
    both_sides: bool = False
    trusted: tuple[int, ...] = ()
    target: str = ""


@dataclass(frozen=True)
class Policy:
    """All rules in order, and the digest of the text they come from. `snapshot_constants`: variables whose
    values are immediates of the text and must be the snapshot's in the twin."""

    rules: tuple[Rule, ...]
    digest: str
    snapshot_constants: tuple[str, ...] = ()


class Trampoline(NamedTuple):
    """What stands at one function's entry. `offset` is its distance from `_text`; bit i of `trusted` says
    that the i-th argument must be the trusted kernel's own. `value`: what is returned, which argument is
    freed, or the offset of the function that is run instead."""

    offset: int
    action: str
    value: int = 0
    both_sides: bool = False
    trusted: int = 0


@dataclass
class Resolution:
    """A policy matched against a kernel: the trampolines, and the name patterns that matched nothing."""

    trampolines: list[Trampoline] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)


@cache
def policy_text() -> bytes:
    """The policy as shipped: installed as `hybridbridge_vol.symbols`, in a source tree the folder
    `symbols`."""
    package = Path(__file__).resolve().parents[2]
    folder = next(folder for folder in (package / "symbols", package.parent / "symbols") if folder.is_dir())
    return b"".join(item.read_bytes() for item in sorted(folder.glob("*.toml")))


def policy_digest() -> str:
    """Names a policy: whatever was derived from another one is not used."""
    return hashlib.sha256(policy_text()).hexdigest()[:16]


def load_policy() -> Policy:
    """Parse the shipped policy."""
    import tomllib

    document = tomllib.loads(policy_text().decode())
    constants = tuple(name for entry in document["snapshot_constants"] for name in entry["names"])
    return Policy(tuple(_rule(entry) for entry in document["rule"]), policy_digest(), constants)


def _rule(entry: dict[str, Any]) -> Rule:
    if entry["action"] not in ACTIONS:
        raise ValueError(f"policy: unknown action {entry['action']!r} for {entry['subsystem']}")
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


def plain_name(symbol: str) -> str:
    """A function's name as its source has it."""
    return _COMPILER_SUFFIX.sub("", symbol)


def resolve(policy: Policy, functions: Iterable[tuple[int, int, str]]) -> Resolution:
    """Match the policy against `(offset from _text, size, symbol)` of every function of a kernel.

    Of several rules for one function the last wins. A function too small for what its rule wants to put there
    keeps its own code (it has no room to do harm in: a `ret` or a tail jump).
    """
    by_name: dict[str, list[tuple[int, int]]] = {}
    for offset, size, symbol in functions:
        if ".cold" not in symbol:
            by_name.setdefault(plain_name(symbol), []).append((offset, size))
    ascending = sorted(by_name)
    chosen: dict[int, Trampoline] = {}
    result = Resolution()
    for rule in policy.rules:
        for pattern in rule.names:
            names = list(_matching(pattern, ascending))
            if not names:
                result.unmatched.append(pattern)
            for name in names:
                for offset, size in by_name[name]:
                    _choose(chosen, rule, offset, size, by_name)
    result.trampolines = [chosen[offset] for offset in sorted(chosen)]
    return result


def _matching(pattern: str, names: list[str]) -> Iterator[str]:
    """Of the ascending `names` those that match as a whole; only those with the pattern's literal beginning
    are tried."""
    prefix = re.match(r"[\w$]*", pattern)[0]  # type: ignore[index]
    if prefix != pattern and pattern[len(prefix)] in "?*{":
        prefix = prefix[:-1]
    matches = re.compile(pattern).fullmatch
    for place in range(bisect_left(names, prefix), len(names)):
        if not names[place].startswith(prefix):
            return
        if matches(names[place]):
            yield names[place]


def _choose(
    chosen: dict[int, Trampoline],
    rule: Rule,
    offset: int,
    size: int,
    by_name: dict[str, list[tuple[int, int]]],
) -> None:
    if rule.action == "twin":
        chosen.pop(offset, None)
        return
    if rule.action == "jump" and rule.target not in by_name:
        return
    needed = _NEEDED[rule.action]
    if rule.action == "return" and rule.value == 0:
        needed = 3
    if size >= needed:
        value = rule.argument if rule.action == "free" else rule.value
        if rule.action == "jump":
            value = by_name[rule.target][0][0]
        trusted = sum(1 << argument for argument in rule.trusted)
        chosen[offset] = Trampoline(offset, rule.action, value, rule.both_sides, trusted)
