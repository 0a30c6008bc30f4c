"""xfrm: security associations and policies of IPsec."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.ip_names import names_of
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.requests import NetlinkRequest
from hybridbridge_vol.netlink.xfrm import (
    NEWPOLICY,
    NEWSA,
    POLICIES,
    STATE_FLAGS,
    STATES,
    Policy,
    State,
    parse_policy,
    parse_state,
)
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import read_answer
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool

_MARK = Column("MARK", "str", "value and mask of the packets' marks")
_IF_ID = Column("IF_ID", "hex", "number of the xfrm interface")
_COMMON = (
    Column("LIMITS", "str", "bytes, packets and seconds after which it is renewed (soft) or ends (hard)"),
    Column("BYTES", "int", "bytes that it has seen"),
    Column("PACKETS", "int", "packets that it has seen"),
    Column("ADDED", "time", "when it was made"),
    Column("USED", "time", "when it was first used"),
    Column("MORE", "str", "attributes that have no column"),
)
_POLICY_FLAGS = ((1, "localok"), (2, "icmp"), (4, "cpu-acquire"))


class Xfrm(Tool):
    name = "xfrm"
    help = "Security associations and policies of IPsec, as `ip xfrm` shows them"
    notes = (
        "Asks the snapshot's kernel by xfrm's netlink messages, as `ip xfrm state` does, whether the "
        "guest had loaded "
        "xfrm_user or not. Keys are shown with --secrets only. One network namespace is shown, that of "
        "process 1: "
        "`--ns-of PID` shows another's."
    )
    options = (
        Option("policy", bool, "policies (ip xfrm policy)"),
        Option("secrets", bool, "also the keys"),
    )
    columns = (
        Column("SOURCE", "str", "source address"),
        Column("DESTINATION", "str", "destination address"),
        Column("PROTO", "str", "esp, ah or comp"),
        Column("SPI", "hex", "its number in packets"),
        Column("REQID", "int", "number by which policies name it"),
        Column("MODE", "str", "transport, tunnel, beet ..."),
        Column("ALGORITHMS", "str", "auth, auth-trunc, enc, aead and comp, with their keys"),
        Column("FLAGS", "str", "esn, noecn, af-unspec ..."),
        Column("REPLAY", "int", "packets of the window against replays"),
        Column("ENCAP", "str", "encapsulation in UDP or TCP, and its ports"),
        Column("SELECTOR", "str", "packets that it is for"),
        _MARK,
        _IF_ID,
        *_COMMON,
    )
    moments = (
        Moment("ADDED", "created", "IPsec state made"),
        Moment("USED", "created", "IPsec state first used"),
    )
    moment_text = ("SOURCE", "DESTINATION", "PROTO", "SPI", "MODE")
    _policies = (
        Column("SELECTOR", "str", "packets that it is for"),
        Column("DIR", "str", "in, out, fwd, or of a socket"),
        Column("ACTION", "str", "allow or block"),
        Column("PRIORITY", "int", "policies are tried in this order"),
        Column("INDEX", "int", "the kernel's number of it"),
        Column("FLAGS", "str", "localok, icmp; sub"),
        Column("TEMPLATES", "str", "what packets must be turned into"),
        _MARK,
        _IF_ID,
        *_COMMON,
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return self._policies if options["policy"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        request: NetlinkRequest = POLICIES if options["policy"] else STATES
        data, gap = read_answer(request.source, partial(kernel.netlink.dump, request))
        count = len(self.columns_for(options))
        kind = NEWPOLICY if options["policy"] else NEWSA
        parse = parse_policy if options["policy"] else parse_state
        for one, source in parsed(request.source, (kind,), data, parse):
            if isinstance(one, ParseError):
                yield Row((Unavailable(str(one)),) * count, sources=(source,))
            elif isinstance(one, Policy):
                yield Row(_policy_cells(one), sources=(source,))
            elif isinstance(one, State):
                yield Row(_state_cells(one, bool(options["secrets"])), sources=(source,))
        if gap is not None:
            yield Row((gap,) * count)


def _common(one: State | Policy, more: list[str]) -> tuple[Cell, ...]:
    more += [f"attribute {kind}: {data.hex() or '(empty)'}" for kind, data in one.rest]
    spent = one.lifetime
    return (
        one.limits or None,
        spent.bytes,
        spent.packets,
        spent.added or None,
        spent.used or None,
        "; ".join(more) or None,
    )


def _mark(mark: tuple[int, int] | None) -> str | None:
    return None if mark is None else f"{mark[0]:#x}/{mark[1]:#x}"


def _state_cells(one: State, secrets: bool) -> tuple[Cell, ...]:
    names = ("replay-window-errors", "replays", "failed")
    failures = [f"{name}: {count}" for name, count in zip(names, one.failures, strict=True) if count]
    return (
        one.source, one.destination, one.protocol, one.spi, one.reqid or None, one.mode,
        "; ".join(algorithm.text(secrets) for algorithm in one.algorithms) or None,
        " ".join(names_of(one.flags, STATE_FLAGS)) or None, one.replay_window, one.encapsulation,
        one.selector,
        _mark(one.mark), one.interface, *_common(one, failures),
    )  # fmt: skip


def _policy_cells(one: Policy) -> tuple[Cell, ...]:
    flags = names_of(one.flags, _POLICY_FLAGS) + ["sub"] * one.is_sub
    return (
        one.selector, one.direction, one.action, one.priority, one.number, " ".join(flags) or None,
        "; ".join(one.templates) or None, _mark(one.mark), one.interface, *_common(one, []),
    )  # fmt: skip


TOOL = Xfrm()
