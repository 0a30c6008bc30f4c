"""What waits in pipes and sockets, asked of many together, on real guests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import own_guest

from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.guest.values import QueuedMessage, QueueEnd
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.tools.process.descriptors import in_shares, targets
from hybridbridge_vol.tools.process.listing import processes

Lab = Any
DATAGRAMS = Path(__file__).parents[1] / "support" / "guest" / "datagrams.c"


def ends_of(session: Session) -> Iterator[QueueEnd]:
    for group in in_shares(session, processes(session)):
        for pid, fd, target, _seen in list(targets(session.files, group)):
            if isinstance(target, str) and target.startswith("socket:["):
                yield QueueEnd(pid, "socket", fd, target, target)
            elif isinstance(target, str) and target.startswith("pipe:["):
                yield QueueEnd(pid, "pipe", fd, target, target)


def waiting_at(session: Session, end: QueueEnd) -> list[QueuedMessage] | str:
    try:
        return session.queues.of_descriptor(end.pid, end.fd, end.kind == "socket")
    except UNREADABLE as error:
        return str(error)


def test_what_waits_is_the_same_asked_together_and_singly(lab: Lab, rich_generation: str) -> None:
    """Of a pipe with data one reader's answer counts, as in the tool: the first in which there is some."""
    session = lab.session(rich_generation)
    ends = list(ends_of(session))
    singly = {end: waiting_at(session, end) for end in ends}
    assert any(singly.values()) and not all(singly.values())
    asked = session.statistics.by_call["fget_task"].calls
    for _ in range(2):  # the first time with what is not proven yet
        before = session.statistics.by_call["fget_task"].calls
        session.queues.expect(ends)
        alone = session.statistics.by_call["fget_task"].calls
        together = {end: waiting_at(session, end) for end in ends}
        assert together == singly
    assert session.statistics.by_call["fget_task"].calls - before < asked
    alone = session.statistics.by_call["fget_task"].calls - alone
    # a socket whose route is looked up again by setsockopt ends the program, and is asked twice (5.10)
    assert alone <= sum(map(bool, singly.values())) + 4
    session.queues.expect([])
    assert waiting_at(session, ends[0]) == singly[ends[0]]


def test_a_message_without_content_hides_none_behind_it(lab: Lab) -> None:
    """A datagram without content is answered as the end of a stream is."""
    lab.sample("6.1 two CPUs")  # which shares its kernel, and so it is trusted
    with open_session(own_guest.image_of("datagrams", "6.1-cloud", DATAGRAMS, ()), lab.store.root) as session:
        for asks_together in (False, True):
            if asks_together:
                session.queues.expect([QueueEnd(1, "socket", fd, "", str(fd)) for fd in range(10, 14)])
            found = [
                [one.content for one in session.queues.of_descriptor(1, fd, True)] for fd in range(10, 14)
            ]
            assert found == [[b"first", b"", b"", b"behind"], [b"", b"packet"], [], [b"", b"udp"]]
