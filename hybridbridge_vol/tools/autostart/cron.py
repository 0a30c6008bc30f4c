"""cron, anacron and at: what runs at a time.

Sources: crontab(5) and cron(8) of Debian's cron 3.0 (names as of run-parts(8)) and of cronie; anacrontab(5);
at 3.2 (`atd.c`: a job's file is named by its queue, number and minute; `at.c`: what stands before the
commands).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hybridbridge_vol.toolkit.cells import utc
from hybridbridge_vol.tools.autostart.places import (
    Places,
    Start,
    meaningful,
    of_line,
    of_script,
    owner_name,
)
from hybridbridge_vol.tools.host.text_file import TextFile

TABLES = ("/var/spool/cron/crontabs", "/var/spool/cron", "/var/spool/cron/tabs", "/etc/crontabs")
"""Where users' tables are: Debian, Red Hat, SUSE, busybox."""
JOBS = ("/var/spool/cron/atjobs", "/var/spool/at", "/var/spool/atjobs")
PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
"""Names that run-parts(8) and Debian's cron take."""
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\s*=.*|\"[^\"]*\"\s*=.*|'[^']*'\s*=.*")
_FIELD = r"[0-9A-Za-z*,/~-]+"
_TIMES = re.compile(rf"-?(@\w+|{_FIELD}(?:[ \t]+{_FIELD}){{4}})[ \t]+(.+)")
_PERIOD = re.compile(r"(@\w+|\d+)\s+(\d+)\s+(\S+)\s+(.+)")
_JOB = re.compile(r"=?([a-zA-Z=])([0-9a-f]{5})([0-9a-f]{8})")
_RUNS_AS = re.compile(r"# atrun uid=(\d+)")
NOT_OF_ITS_FILE = "not a line of its file"
IGNORED = "ignored for its name"


def starts(places: Places) -> Iterator[Start]:
    """Everything that cron, anacron and atd would run."""
    main = places.text("cron", "/etc/crontab")
    if main is not None:
        yield from table(main, with_user=True)
    for file in places.texts("cron", ("/etc/cron.d",)):
        ignored = IGNORED if not _NAME.fullmatch(file.path.rpartition("/")[2]) else None
        for start in table(file, with_user=True):
            yield start._replace(state=ignored)
    for folder in TABLES:
        for file in places.texts("cron", (folder,)):
            user = file.path.rpartition("/")[2]
            for start in table(file, with_user=False):
                yield start._replace(user=user)
    for period in PERIODS:
        for script in places.scripts("cron", f"/etc/cron.{period}"):
            taken = _NAME.fullmatch(script.name) is not None
            state = IGNORED if not taken else None if script.is_executable else "not executable"
            yield of_script("cron", script, period, state=state)
    anacron = places.text("anacron", "/etc/anacrontab")
    if anacron is not None:
        yield from _periods(anacron)
    for file in places.texts("at", JOBS):
        yield from job(file)


def table(file: TextFile, with_user: bool) -> Iterator[Start]:
    """The lines of a crontab; settings that change what is run are among them."""
    for line in meaningful(file.lines):
        if _SETTING.fullmatch(line.text):
            if line.text.startswith(("LD_", "SHELL", "PATH")):
                yield of_line("cron", file, line, line.text, "setting")
            continue
        match = _TIMES.fullmatch(line.text)
        user, command = None, match[2] if match else ""
        if match and with_user:
            user, _blank, command = re.sub(r"\s", " ", command, count=1).partition(" ")
            command = command.strip()
        if match is None or not command:
            yield of_line("cron", file, line, line.text).marked(NOT_OF_ITS_FILE)
            continue
        yield of_line("cron", file, line, command, re.sub(r"\s+", " ", match[1]), user)


def _periods(file: TextFile) -> Iterator[Start]:
    for line in meaningful(file.lines):
        if _SETTING.fullmatch(line.text):
            continue
        match = _PERIOD.fullmatch(line.text)
        if match is None:
            yield of_line("anacron", file, line, line.text, user="root").marked(NOT_OF_ITS_FILE)
        else:
            days = match[1] if match[1].startswith("@") else f"{match[1]} days"
            yield of_line(
                "anacron", file, line, match[4], f"every {days}, {match[2]} min after start", "root"
            )


def job(file: TextFile) -> Iterator[Start]:
    """The commands of an at job: what stands behind the lines that restore its environment."""
    match = _JOB.fullmatch(file.path.rpartition("/")[2])
    if match is None:
        return  # .SEQ, the counter of jobs
    when = int(match[3], 16) * 60
    runs_as = next((found[1] for line in file.lines[:8] if (found := _RUNS_AS.match(line.text))), None)
    user = owner_name(file) if runs_as is None else f"#{runs_as}"
    begin = next((at for at, line in enumerate(file.lines) if line.text == "}"), -1)
    commands = [line for line in file.lines[begin + 1 :] if line.text.strip()]
    for line in commands:
        yield of_line("at", file, line, line.text.strip(), _utc(when), user)
    if not commands and file.lines:
        yield of_line("at", file, file.lines[0], "no command in it", _utc(when), user)


def _utc(seconds: int) -> str:
    return f"once at {utc(seconds)}"
