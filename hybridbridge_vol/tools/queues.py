"""queues: data that was sent and that nobody has read yet."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from errno import ENOENT
from functools import cache, partial
from itertools import chain, islice

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.guest.values import OpenDescriptor, QueuedMessage, QueueEnd, Stat
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, read_lines, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.descriptors import Share, in_shares, targets
from hybridbridge_vol.tools.process.listing import PID, chosen, comm_of

_SHOWN = 512
"""Bytes of a message that a row shows."""
_AT_ONCE = 4096
"""Ends that are asked about together: those of one program that holds most of a machine's pipes."""
_TERMINAL = re.compile(r"/(?:dev/)?(?:ptmx|pts/(?:ptmx|[0-9]+)|tty[A-Za-z0-9]+|[0-9]+)(?: \(deleted\))?")
"""What a descriptor of a terminal leads to; in a container /dev may be another one."""
_SYSTEM_V, _POSIX = "/proc/sysvipc/msg", "/dev/mqueue"


class Queues(Tool):
    name = "queues"
    help = "Data that nobody has read yet: in sockets, pipes, terminals, message queues"
    notes = (
        "What programs would read next, by the kernel's own recv, read and msgrcv; none of it is taken "
        "away. A pipe, socket or terminal that several descriptors lead to is shown with the first of them. "
        "Of a terminal's slave it is what was typed ahead, of its master (/dev/ptmx) what was printed and "
        "not yet shown. A line without its end is not there yet. Message queues are those of the session's "
        "ipc namespace (--ns-of). "
        f"The first {_SHOWN} bytes of each message are shown, all with --full."
    )
    options = (PID, Option("full", bool, "show each message as a whole"))
    columns = (
        Column("KIND", "str", "pipe, socket, terminal, message (System V), mqueue (POSIX)"),
        Column("PID", "int", "process that holds it"),
        Column("COMM", "str", "name of the executable, as the kernel stores it"),
        Column("FD", "int", "its descriptor"),
        Column("NAME", "str", "what the descriptor leads to; the queue's id or path"),
        Column("NUMBER", "int", "number of the message in the queue, from 1 on"),
        Column("TYPE", "int", "type of a System V message, priority of a POSIX one"),
        Column("SIZE", "int", "bytes that wait"),
        Column("DATA", "str", "them: text, or hexadecimal"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        limit = None if options["full"] else _SHOWN
        shares = in_shares(kernel, chosen(kernel, options))
        seen: set[str] = set()
        name_of = cache(lambda pid: comm_of(kernel.files, f"/proc/{pid}"))
        ends = chain.from_iterable(_ends(kernel.files, group) for group in _with_progress(kernel, shares))
        while part := list(islice(ends, _AT_ONCE)):
            kernel.queues.expect([end for end in part if end.queue not in seen])
            for end in part:
                if end.queue in seen:
                    continue
                rows = list(_of_end(kernel, end, name_of, limit))
                # of a pipe or terminal another descriptor may be one for reading
                if rows or end.kind == "socket":
                    seen.add(end.queue)
                yield from rows
        kernel.progress(1, "looking into descriptors")
        if not options["pid"]:
            yield from _message_queues(kernel, limit)


def _with_progress(kernel: GuestKernel, shares: list[list[Share]]) -> Iterator[list[Share]]:
    for number, group in enumerate(shares):
        kernel.progress(number / len(shares), "looking into descriptors")
        yield group


def _ends(files: Files, shares: list[Share]) -> Iterator[QueueEnd]:
    """The descriptors that may hold something."""
    # all of them first: a question about an end takes back what was expected
    for pid, fd, target, seen in list(targets(files, shares)):
        if isinstance(target, Unavailable):
            continue
        if target.startswith("socket:["):
            yield QueueEnd(pid, "socket", fd, target, target)
        elif target.startswith("pipe:[") or _is_fifo(files, pid, fd, target, seen):
            yield QueueEnd(pid, "pipe", fd, target, target)
        elif _TERMINAL.fullmatch(target):
            yield QueueEnd(pid, "terminal", fd, target, _terminal(files, pid, fd, target, seen))


def _terminal(files: Files, pid: int, fd: int, target: str, seen: OpenDescriptor | None) -> str:
    """What tells a terminal from others: its inode, since names are those of a mount namespace. Masters have
    one inode together."""
    found = _status(files, pid, fd, seen)
    if isinstance(found, Unavailable) or "ptmx" in target:
        return f"{pid} {fd}"
    return f"inode {found.ino} on {found.dev}"


def _is_fifo(files: Files, pid: int, fd: int, target: str, seen: OpenDescriptor | None) -> bool:
    if not target.startswith("/") or target.startswith("/dev/"):
        return False
    found = _status(files, pid, fd, seen)
    return not isinstance(found, Unavailable) and stat.S_ISFIFO(found.mode)


def _status(files: Files, pid: int, fd: int, seen: OpenDescriptor | None) -> Stat | Unavailable:
    path = f"/proc/{pid}/fd/{fd}"
    return attempt(path, partial(files.stat, path, follow=True)) if seen is None else seen.stat


def _of_end(
    kernel: GuestKernel, end: QueueEnd, name_of: Callable[[int], Cell], limit: int | None
) -> Iterator[Row]:
    pid, kind, fd, target, _queue = end
    head = (kind, pid, None, fd, target)
    ask = partial(kernel.queues.of_descriptor, pid, fd, kind == "socket")
    for row in _messages(head, ask, f"/proc/{pid}/fd/{fd}", limit):
        yield row._replace(cells=(*row.cells[:2], name_of(pid), *row.cells[3:]))


def _message_queues(kernel: GuestKernel, limit: int | None) -> Iterator[Row]:
    data, gap = read_lines(kernel.files, _SYSTEM_V, empty=ENOENT)
    if gap:
        yield Row(("message", None, None, None, gap, None, None, gap, gap))
    for line in data.decode("ascii", "replace").split("\n")[1:]:
        words = line.split()
        if len(words) > 4 and words[1].isdecimal() and words[4].isdecimal() and int(words[4]):
            identifier, count = int(words[1]), int(words[4])
            head: tuple[Cell, ...] = ("message", None, None, None, f"{identifier} (key {int(words[0]):#x})")
            yield from _messages(
                head,
                partial(kernel.queues.system_v, identifier, count),
                f"msgrcv {identifier}",
                limit,
            )
    names = attempt(_POSIX, lambda: kernel.files.listdir(_POSIX))
    for name in [] if isinstance(names, Unavailable) else names:
        path = f"{_POSIX}/{name}"
        yield from _messages(
            ("mqueue", None, None, None, path), partial(kernel.queues.posix, path), path, limit
        )


def _messages(
    head: tuple[Cell, ...], ask: Callable[[], list[QueuedMessage]], source: str, limit: int | None
) -> Iterator[Row]:
    try:
        for number, message in enumerate(ask(), 1):
            data = message.content
            yield Row((*head, number, message.kind, len(data), _shown(data[:limit])))
    except UNREADABLE as error:
        reason = why(source, error)
        yield Row((*head, None, None, reason, reason))


def _shown(data: bytes) -> str:
    """Text where it is, with the control characters of text; otherwise in hexadecimal."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return data.hex()
    return text if re.fullmatch(r"(?:[^\x00-\x08\x0e-\x1a\x1c-\x1f])*", text) else data.hex()


TOOL = Queues()
