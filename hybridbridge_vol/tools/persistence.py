"""persistence: everything by which a program starts by itself, with what is unusual about it."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.file_system.accounts import Accounts

if TYPE_CHECKING:
    from hybridbridge_vol.tools.autostart.marks import Marker
    from hybridbridge_vol.tools.autostart.packages import Packages
    from hybridbridge_vol.tools.autostart.places import Places, Start

KINDS = (
    "anacron", "at", "authorized_keys", "autostart", "binfmt", "cron", "D-Bus service", "desktop",
    "environment", "generator", "git", "incron", "inetd", "init script", "initramfs", "inittab",
    "kernel helper", "kernel package", "ld.so.conf", "ld.so.preload", "logrotate", "modprobe", "module",
    "motd", "network", "package manager", "packages", "pam", "pam module", "polkit", "power", "python",
    "rc.local", "shell", "ssh client", "sshd", "sysctl", "udev", "unit", "user unit",
)  # fmt: skip


class Persistence(Tool):
    name = "persistence"
    help = "What starts by itself: cron, at, systemd, init, shells, udev, PAM, the linker and more"
    notes = (
        "Reads the guest's own files in all the places where cron, anacron, at, systemd (system and users, "
        "with drop-ins and generators), init, shells, the linker, udev, modprobe, PAM, sshd, desktops, "
        "binfmt, initramfs-tools, apt, D-Bus, ssh, logrotate, git, Python, polkit, incron, acpid and the "
        "kernel look for what they run. A row for each line that runs something; of a shell script each "
        "command. Of scripts that are run as a whole, one row. STATE says whether it is in force: of a unit "
        "as `systemctl is-enabled` says it, `overridden by PATH`, `ignored for its name`, `as the kernel "
        "begins` for a helper that nobody changed. PACKAGE is of the lists of dpkg, apk, pacman or rpm, as "
        "far as memory holds them; a row of kind `packages` says if it does not. A file of which memory "
        "lacks a part says so, and has no line numbers behind the gap; what is not in memory at all has a "
        "row that says that. MARK is a list of facts and no verdict: --marked shows the rows that have any."
    )
    example = "--marked"
    options = (
        Option("kind", str, f"only these kinds: {', '.join(KINDS)}", many=True, short="k"),
        Option("marked", bool, "only rows with a mark", short="m"),
        Option("path", str, "only files that match this pattern (*, ?, [])"),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("KIND", "str", "by what it is started"),
        Column("WHEN", "str", "schedule, event, or who wants it"),
        Column("RUNS", "str", "command, program, module or setting"),
        Column("USER", "str", "whose rights it has, if that is written"),
        Column("STATE", "str", "whether it is in force; empty where nothing says that it is not"),
        Column("OWNER", "str", "owner of the file"),
        Column("MODE", "str", "type and permissions of the file"),
        Column("MTIME", "time", "content of the file changed"),
        Column("PACKAGE", "str", "package that has brought the file"),
        Column("MARK", "str", "what is unusual"),
        Column("READ", "str", "`whole`, or why not all of the file could be read"),
        Column("FILE", "str", "where it is written"),
        Column("LINE", "int", "line in that file; empty for a whole file, and behind a gap"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for kind in options["kind"]:
            if kind not in KINDS:
                raise OptionError(f"--kind {kind}: no such kind; there are {', '.join(KINDS)}")
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.autostart.marks import Marker
        from hybridbridge_vol.tools.autostart.packages import Packages
        from hybridbridge_vol.tools.autostart.places import Places

        places, packages, accounts = Places(kernel.files), Packages(kernel.files), Accounts(kernel.files)
        marker = Marker(places, packages)
        for start in _starts(places, packages):
            if options["kind"] and start.kind.removesuffix(" drop-in") not in options["kind"]:
                continue
            if options["path"] and not fnmatch.fnmatchcase(start.path, options["path"]):
                continue
            marks = marker.marks(start)
            if marks or not options["marked"]:
                yield _row(start, marks, marker, accounts)


def _starts(places: Places, packages: Packages) -> Iterator[Start]:
    """Family by family, and behind each what could not be read for it."""
    from hybridbridge_vol.tools.autostart import configured, cron, logins, scripts, system, units
    from hybridbridge_vol.tools.autostart.places import Start

    families = (
        cron.starts,
        units.starts,
        scripts.starts,
        system.starts,
        configured.starts,
        lambda it: logins.starts(it, packages),
    )
    for family in families:
        yield from family(places)
        yield from places.taken_lacks()
    if packages.lack is not None:
        yield Start("packages", packages.lacking_path, what=packages.lack, lack=packages.lack)


def _row(start: Start, marks: list[str], marker: Marker, accounts: Accounts) -> Row:
    seen = start.attributes
    package = marker.package(start)
    user: Cell = start.user
    if isinstance(user, str) and user.startswith("#") and user[1:].isdigit():
        user = accounts.user(int(user[1:]))
    cells: tuple[Cell, ...] = (
        start.kind,
        start.when,
        start.what,
        user,
        start.state,
        accounts.user(seen.uid) if seen else None,
        stat.filemode(seen.mode) if seen else None,
        seen.mtime if seen else None,
        package.name if package else None,
        ", ".join(marks) or None,
        start.lack or "whole",
        start.path,
        start.line,
    )
    return Row(cells, sources=(Source(start.path, *(start.span or ())), Source(f"lstat {start.path}")))


TOOL = Persistence()
