"""Which netlink requests of a native program are handed to the image's kernel: those that ask."""

from __future__ import annotations

import struct

import pytest

from hybridbridge_vol.native.netlink_requests import only_asks

ROUTE, SOCK_DIAG, XFRM, SELINUX, AUDIT, NETFILTER, GENERIC = 0, 4, 6, 7, 9, 12, 16
DUMP = 0x300
WIREGUARD, MPTCP = 30, 31


def asks(protocol: int, *requests: tuple[int, int, int]) -> bool:
    """`requests` are a kind, flags, and the command of generic netlink."""
    message = b"".join(
        struct.pack("<IHHIIBBH", 20, kind, flags, 0, 0, command, 1, 0) for kind, flags, command in requests
    )
    return only_asks(protocol, message, lambda: {WIREGUARD: b"wireguard", MPTCP: b"mptcp_pm"})


@pytest.mark.parametrize(
    ("protocol", "kind", "flags", "command", "expected"),
    [
        (ROUTE, 18, DUMP, 0, True),  # RTM_GETLINK
        (ROUTE, 16, 0, 0, False),  # RTM_NEWLINK
        (SOCK_DIAG, 20, DUMP, 0, True),
        (SOCK_DIAG, 21, 0, 0, False),  # SOCK_DESTROY
        (XFRM, 18, DUMP, 0, True),  # XFRM_MSG_GETSA
        (XFRM, 28, 0, 0, False),  # XFRM_MSG_FLUSHSA
        (NETFILTER, 0x101, DUMP, 0, True),  # IPCTNL_MSG_CT_GET
        (NETFILTER, 0x103, DUMP, 0, False),  # ..._CTRZERO
        (NETFILTER, 0xA07, DUMP, 0, True),  # NFT_MSG_GETRULE
        (NETFILTER, 0xA06, 0, 0, False),  # NFT_MSG_NEWRULE
        (NETFILTER, 0x10, 0, 0, False),  # NFNL_MSG_BATCH_BEGIN
        (GENERIC, 16, 0, 3, True),  # CTRL_CMD_GETFAMILY
        (GENERIC, WIREGUARD, DUMP, 0, True),  # WG_CMD_GET_DEVICE
        (GENERIC, WIREGUARD, 0, 1, False),  # WG_CMD_SET_DEVICE
        (GENERIC, MPTCP, 0, 6, True),  # MPTCP_PM_CMD_GET_LIMITS
        (GENERIC, MPTCP, 0, 5, False),  # ..._SET_LIMITS
        (GENERIC, 99, 0, 1, False),
        (AUDIT, 1000, 0, 0, True),  # AUDIT_GET
        (AUDIT, 1013, 0, 0, True),  # AUDIT_LIST_RULES
        (AUDIT, 1001, 0, 0, False),  # AUDIT_SET
        (AUDIT, 1011, 0, 0, False),  # AUDIT_ADD_RULE
        (SELINUX, 16, DUMP, 0, False),
    ],
)
def test_what_asks(protocol: int, kind: int, flags: int, command: int, expected: bool) -> None:
    assert asks(protocol, (kind, flags, command)) is expected


def test_a_change_behind_a_question_is_a_change() -> None:
    assert asks(ROUTE, (18, DUMP, 0), (22, DUMP, 0))
    assert not asks(ROUTE, (18, DUMP, 0), (17, 0, 0))
