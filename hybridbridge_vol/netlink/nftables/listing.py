"""The whole ruleset: tables with their objects, sets, flowtables, chains and rules, in the order of
`nft list ruleset`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple, TypeVar

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.netlink.nftables.data_types import Names, quoted
from hybridbridge_vol.netlink.nftables.rule_text import rule_text
from hybridbridge_vol.netlink.nftables.set_text import OBJECT_KINDS, Kinds, elements_text, set_lines
from hybridbridge_vol.netlink.nftables.statements import object_lines, plain_text, unknown_text
from hybridbridge_vol.netlink.requests import NetlinkRequest
from hybridbridge_vol.procfs.sources import Source

T = TypeVar("T")
Ask = Callable[[NetlinkRequest], bytes]
_HOOKS: tuple[str, ...] = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_NETDEV_HOOKS: tuple[str, ...] = ("ingress", "egress")
_ARP_HOOKS: tuple[str, ...] = ("input", "output", "forward")
_PRIORITIES = {-300: "raw", -150: "mangle", -100: "dstnat", 0: "filter", 50: "security", 100: "srcnat"}
_BRIDGE_PRIORITIES = {-300: "dstnat", -200: "filter", 100: "out", 300: "srcnat"}
_NEAR = 10
"""How far a priority may be from one with a name to be written by it."""
_TABLE_FLAGS = ((1, "dormant"), (2, "owner"), (4, "persist"))
_OFFLOAD = 2
"""NFT_CHAIN_HW_OFFLOAD."""


class Entry(NamedTuple):
    """A thing of the ruleset: `kind` is table, chain, rule, set, map, element, counter ...; `lines` are its
    own, without what stands in it. `packets` and `bytes` of a rule that counts."""

    family: str
    table: str
    kind: str
    name: str
    handle: int | None
    lines: tuple[str, ...]
    sources: tuple[Source, ...]
    packets: int | None = None
    bytes: int | None = None
    error: ParseError | None = None


class Ruleset:
    """`ask` gives the answer to a request, `names` the name of an interface. What `ask` raises goes to the
    caller of `entries`."""

    def __init__(self, ask: Ask, names: Names) -> None:
        self._ask = ask
        self._names = names
        self.broken: list[tuple[ParseError, Source]] = []
        """Messages that make no sense."""
        self._elements: dict[tuple[int, str, str], list[nft.Element]] = {}

    def _all(self, request: NetlinkRequest, kind: int, parse: Callable[[bytes], T]) -> list[tuple[T, Source]]:
        found = []
        for one, source in parsed(request.source, (kind,), self._ask(request), parse):
            if isinstance(one, ParseError):
                self.broken.append((one, source))
            else:
                found.append((one, source))
        return found

    @cached_property
    def tables(self) -> list[tuple[nft.Table, Source]]:
        return self._all(nft.TABLES, nft.NEWTABLE, nft.parse_table)

    @cached_property
    def chains(self) -> list[tuple[nft.Chain, Source]]:
        return self._all(nft.CHAINS, nft.NEWCHAIN, nft.parse_chain)

    @cached_property
    def rules(self) -> list[tuple[nft.Rule, Source]]:
        return self._all(nft.RULES, nft.NEWRULE, nft.parse_rule)

    @cached_property
    def sets(self) -> list[tuple[nft.Set, Source]]:
        return self._all(nft.SETS, nft.NEWSET, nft.parse_set)

    @cached_property
    def _sets_of(self) -> dict[tuple[int, str], dict[str, nft.Set]]:
        """The sets of each table by their names."""
        found: dict[tuple[int, str], dict[str, nft.Set]] = {}
        for each, _source in self.sets:
            found.setdefault((each.family, each.table), {})[each.name] = each
        return found

    @cached_property
    def objects(self) -> list[tuple[nft.Object, Source]]:
        return self._all(nft.OBJECTS, nft.NEWOBJ, nft.parse_object)

    @cached_property
    def flowtables(self) -> list[tuple[nft.Flowtable, Source]]:
        return self._all(nft.FLOWTABLES, nft.NEWFLOWTABLE, nft.parse_flowtable)

    def elements(self, found: nft.Set) -> list[nft.Element]:
        """Those of a set, in the kernel's order."""
        key = found.family, found.table, found.name
        if key not in self._elements:
            request = nft.elements_of(found.family, encoded(found.table), encoded(found.name))
            lists = self._all(request, nft.NEWSETELEM, nft.parse_elements)
            self._elements[key] = [element for some, _source in lists for element in some]
        return self._elements[key]

    # --- the entries --------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """Tables, each with what is in it. What belongs to a table that is not listed comes last."""
        known = set()
        for table, source in self.tables:
            family = _family(table.family)
            known.add((table.family, table.name))
            yield Entry(family, table.name, "table", table.name, table.handle, table_lines(table), (source,))
            yield from self._in_table(table.family, table.name)
            yield Entry(family, table.name, "end", table.name, None, ("}",), ())
        others = (self.objects, self.sets, self.flowtables, self.chains)
        rest = {(each.family, each.table) for group in others for each, _source in group} - known
        for number, name in sorted(rest):
            yield from self._in_table(number, name)

    def _in_table(self, number: int, table: str) -> Iterator[Entry]:
        family = _family(number)

        def of(found: list[tuple[T, Source]]) -> Iterator[tuple[T, Source]]:
            return ((one, source) for one, source in found if (one.family, one.table) == (number, table))  # type: ignore[attr-defined]

        for one, source in of(self.objects):
            kind = OBJECT_KINDS.get(one.kind, f"object-{one.kind}")
            lines = (f"{kind} {one.name} {{", *object_lines(one), "}")
            yield Entry(family, table, kind, one.name, one.handle, lines, (source,))
        for found, source in of(self.sets):
            if not found.flags & nft.ANONYMOUS:
                yield from self._set(family, found, source)
        for flow, source in of(self.flowtables):
            yield Entry(family, table, "flowtable", flow.name, flow.handle, flowtable_lines(flow), (source,))
        rules: dict[str, list[tuple[nft.Rule, Source]]] = {}
        for rule, source in of(self.rules):
            rules.setdefault(rule.chain, []).append((rule, source))
        for chain, source in of(self.chains):
            packets, bytes_ = chain.counters or (None, None)
            lines = chain_lines(chain)
            yield Entry(family, table, "chain", chain.name, chain.handle, lines, (source,), packets, bytes_)
            yield from (self._rule(family, each, where) for each, where in rules.pop(chain.name, ()))
            yield Entry(family, table, "end", chain.name, None, ("}",), ())
        yield from (self._rule(family, each, where) for left in rules.values() for each, where in left)

    def _set(self, family: str, found: nft.Set, source: Source) -> Iterator[Entry]:
        kind = "map" if found.flags & (nft.MAP | nft.OBJECT) else "set"
        lines = (f"{kind} {found.name} {{", *set_lines(found, self._stateful))
        yield Entry(family, found.table, kind, found.name, found.handle, lines, (source,))
        texts = self._texts(found)
        for index, text in enumerate(texts):
            start = "elements = { " if index == 0 else ""
            end = " }" if index == len(texts) - 1 else ","
            yield Entry(family, found.table, "element", found.name, None, (start + text + end,), (source,))
        yield Entry(family, found.table, "end", found.name, None, ("}",), ())

    def _texts(self, found: nft.Set, like: Kinds | None = None) -> list[str]:
        return elements_text(found, self.elements(found), self._names, self._stateful, like)

    def _stateful(self, one: nft.Expression) -> str:
        return plain_text(one) or unknown_text(one)

    def _rule(self, family: str, rule: nft.Rule, source: Source) -> Entry:
        text = self._rule_text(rule)
        if rule.comment is not None:
            text += f" comment {quoted(rule.comment)}"
        counter = next((each.data for each in rule.expressions if each.kind == "counter"), None)
        counts = (None, None) if counter is None else (nft.number(counter.get(2)), nft.number(counter.get(1)))
        return Entry(family, rule.table, "rule", rule.chain, rule.handle, (text,), (source,), *counts)

    def _rule_text(self, rule: nft.Rule) -> str:
        sets = self._sets_of.get((rule.family, rule.table), {})

        def set_text(name: str, like: Kinds) -> str:
            found = sets.get(name)
            if found is None or not found.flags & nft.ANONYMOUS:
                return f"@{name}"
            return f"{{ {', '.join(self._texts(found, like))} }}"

        return rule_text(rule.family, sets, set_text, self._names, rule.expressions)


def _family(number: int) -> str:
    return nft.FAMILIES.get(number, str(number))


def encoded(name: str) -> bytes:
    """A name as the kernel has it."""
    return name.encode("utf-8", "surrogateescape")


def table_lines(table: nft.Table) -> tuple[str, ...]:
    lines = [f"table {_family(table.family)} {table.name} {{"]
    flags = ",".join(name for bit, name in _TABLE_FLAGS if table.flags & bit)
    if flags:
        lines.append(f"flags {flags}")
    if table.comment is not None:
        lines.append(f"comment {quoted(table.comment)}")
    return tuple(lines)


_ONLY_AT = {"dstnat": 0, "out": 3, "srcnat": 4}
"""Names of priorities that are those of one hook."""


def priority_text(priority: int, family: int, hook: int) -> str:
    """By the name that it has or is near to."""
    names = _BRIDGE_PRIORITIES if family == nft.BRIDGE else _PRIORITIES
    if family in (nft.ARP, nft.NETDEV):
        names = {0: "filter"}
    for value, name in names.items():
        offset = priority - value
        if abs(offset) <= _NEAR and _ONLY_AT.get(name, hook) == hook:
            return name if not offset else f"{name} {'+' if offset > 0 else '-'} {abs(offset)}"
    return str(priority)


def hook_text(hook: int, family: int) -> str:
    """The name of a hook of a family."""
    names = {nft.NETDEV: _NETDEV_HOOKS, nft.ARP: _ARP_HOOKS}.get(family, _HOOKS)
    return names[hook] if hook < len(names) else str(hook)


def chain_lines(chain: nft.Chain) -> tuple[str, ...]:
    lines = [f"chain {chain.name} {{"]
    if chain.comment is not None:
        lines.append(f"comment {quoted(chain.comment)}")
    if chain.hook is not None:
        devices = ""
        if len(chain.devices) == 1:
            devices = f" device {quoted(chain.devices[0])}"
        elif chain.devices:
            devices = f" devices = {{ {', '.join(map(quoted, sorted(chain.devices)))} }}"
        hook = hook_text(chain.hook, chain.family)
        priority = priority_text(chain.priority, chain.family, chain.hook)
        line = f"type {chain.kind} hook {hook}{devices} priority {priority};"
        if chain.policy is not None:
            line += f" policy {'accept' if chain.policy else 'drop'};"
        lines.append(line + (" flags offload;" if chain.flags & _OFFLOAD else ""))
    return tuple(lines)


def flowtable_lines(flow: nft.Flowtable) -> tuple[str, ...]:
    lines = [
        f"flowtable {flow.name} {{",
        f"hook ingress priority {priority_text(flow.priority, nft.NETDEV, flow.hook)}",
        f"devices = {{ {', '.join(sorted(flow.devices))} }}",
    ]
    flags = [name for bit, name in ((1, "flags offload"), (2, "counter")) if flow.flags & bit]
    return (*lines, *flags, "}")
