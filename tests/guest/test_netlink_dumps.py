"""Requests on netlink sockets leave the guest's own sockets as they are."""

from __future__ import annotations

from generations import Lab

from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.guest.values import Question
from hybridbridge_vol.netlink import sock_diag

TABLE = "/proc/net/netlink"


def test_our_own_sockets_are_not_among_the_guests(lab: Lab, generation: str) -> None:
    with open_session(lab.sample(generation).dump, lab.store.root) as session:
        before = session.files.read(TABLE)
        answers = [session.sockets.dump(sock_diag.UNIX, net_of) for net_of in (None, 1, None)]
        assert answers[0] and answers[0] == answers[2]
        assert session.files.read(TABLE) == before
        assert session.sockets.dump(sock_diag.UNIX) == answers[0]
        session.files.expect([Question("read", TABLE)])
        assert session.files.read(TABLE) == before
        assert session.rolled_back == 0
