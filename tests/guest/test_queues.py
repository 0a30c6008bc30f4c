"""What waits in pipes and sockets, asked of many together, on real guests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.guest.values import QueuedMessage, QueueEnd
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.tools.process.descriptors import in_shares, targets
from hybridbridge_vol.tools.process.listing import processes

Lab = Any


def ends_of(session: Session) -> Iterator[QueueEnd]:
    for group in in_shares(session, processes(session)):
        for pid, fd, target, _seen in list(targets(session.files, group)):
            if isinstance(target, str) and target.startswith("socket:["):
                yield QueueEnd(pid, "socket", fd, target)
            elif isinstance(target, str) and target.startswith("pipe:["):
                yield QueueEnd(pid, "pipe", fd, target)


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
        together = {end: waiting_at(session, end) for end in ends}
        assert together == singly
    assert session.statistics.by_call["fget_task"].calls - before < asked / 2
    session.queues.expect([])
    assert waiting_at(session, ends[0]) == singly[ends[0]]
