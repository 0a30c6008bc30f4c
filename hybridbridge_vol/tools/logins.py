"""logins: who logged in, from where, until when; failed attempts, boots, sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool
from hybridbridge_vol.tools.host.logins import SOURCES, Login, logins


class Logins(Tool):
    name = "logins"
    help = "Logins, failed logins, boots and sessions, as last, lastb, who and lastlog show them"
    notes = (
        "Reads utmp (who is logged in), wtmp (logins and boots), btmp (failed logins), lastlog (of each user "
        "the last login), rotated wtmp.1 and btmp.1, and the sessions of systemd-logind. Records of wtmp are "
        "paired as last(1) pairs them: END is when a login ended or the machine went down, and HOW says by "
        "what: logout, next login on that line, down, crash (the next boot came without a shutdown), open; "
        "gone: it is open, but its process is not there. A boot is open until its machine goes down. MARK "
        "names records that were zeroed and those that are older than the one before them: traces of "
        "programs that hide logins. Rows of kind `file` say what could not be read. The databases of wtmpdb "
        "and lastlog2 (Debian 13) are read where memory holds them as a whole."
    )
    example = "--source wtmp"
    options = (
        Option("source", str, f"only these: {', '.join(SOURCES)}", many=True, short="s"),
        Option("user", str, "only this user", short="u"),
        Option("marked", bool, "only rows with a mark"),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("SOURCE", "str", "utmp, wtmp, btmp, lastlog, session"),
        Column(
            "KIND",
            "str",
            "login, logout, login prompt, boot, shutdown, runlevel, failed, last, session, file ...",
        ),
        Column("USER", "str", "name as it is recorded; of lastlog by the guest's own accounts"),
        Column("TTY", "str", "terminal, without /dev/"),
        Column("HOST", "str", "where the login came from, as it was given"),
        Column("ADDRESS", "str", "IP address that was recorded"),
        Column("PID", "int", "process: of the session's leader"),
        Column("START", "time", "when it happened"),
        Column("END", "time", "when it was over"),
        Column("DURATION", "duration", "time between both"),
        Column("HOW", "str", "how it ended: logout, next login, down, crash, open, gone"),
        Column("MARK", "str", "what is unusual"),
        Column("FILE", "str", "the file"),
        Column("OFFSET", "int", "of the record in that file, in bytes"),
    )

    moments = (
        Moment("START", "created", "{KIND}"),
        Moment("END", "created", "end of {KIND}"),
    )
    moment_text = ("SOURCE", "USER", "TTY", "HOST", "ADDRESS", "PID", "HOW")

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for source in options["source"]:
            if source not in SOURCES:
                raise OptionError(f"--source {source}: no such source; there are {', '.join(SOURCES)}")
        for login in logins(kernel.files):
            if options["source"] and login.source not in options["source"]:
                continue
            if options["marked"] and not login.marks:
                continue
            if options["user"] is None or login.user == options["user"] or login.kind == "file":
                yield _row(login)


def _row(login: Login) -> Row:
    lasted = None
    if isinstance(login.start, int | float) and isinstance(login.end, int | float):
        lasted = login.end - login.start
    cells = (
        login.source,
        login.kind,
        login.user,
        login.tty,
        login.host,
        login.address,
        login.pid,
        login.start,
        login.end,
        lasted,
        login.how,
        ", ".join(login.marks) or None,
        login.path,
        login.offset,
    )
    start = login.offset or 0
    return Row(cells, sources=(Source(login.path, start, start + login.size if login.size else None),))


TOOL = Logins()
