"""users: accounts and groups of the guest, who may become root, and who may log in by a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import attempt
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool

if TYPE_CHECKING:
    from hybridbridge_vol.tools.host.account_book import Entry

KINDS = ("account", "group", "sudo", "key", "file")
"""`sudo` are rules, aliases and defaults; `file` says what is not in memory."""
_HASH = Column("HASH", "str", "the password's hash as the file has it")


class Users(Tool):
    name = "users"
    help = "Accounts, groups, sudo rules and authorized keys, by the guest's own files"
    notes = (
        "Reads /etc/passwd, group, shadow, sudoers with all that it includes, and the authorized_keys of "
        "each account (where sshd_config says, and at the usual places). Names that come from a directory "
        "service are in none of them. Rows of kind `file` name what could not be read in full, or does not "
        "exist: what such a file would say is not known. A password's hash is named by its method only; "
        "--secrets shows it. MARK says what an account usually is not. A path below another root: --root-of "
        "PID."
    )
    example = ""
    options = (
        Option("kind", str, f"only these kinds: {', '.join(KINDS)}", many=True, short="k"),
        Option("marked", bool, "only rows with a mark"),
        Option("secrets", bool, "a column HASH with the passwords' hashes"),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column("KIND", "str", "account, group, sudo (a rule), sudo alias, sudo default, key, file"),
        Column("NAME", "str", "of the account or group; whom a rule is for; whose key it is"),
        Column("UID", "int", "user id"),
        Column("GID", "int", "group id, of an account its first one's"),
        Column("GROUPS", "str", "the account's groups, the first one first; the group's members"),
        Column("HOME", "str", "home directory"),
        Column("SHELL", "str", "login shell"),
        Column(
            "PASSWORD",
            "str",
            "how the hash was made; `locked`: no password is right; `none`: none is needed",
        ),
        Column("CHANGED", "time", "day of the last change of the password"),
        Column("EXPIRES", "time", "day on which the account expires"),
        Column("AGE", "str", "days of shadow(5): at least, at most, warning before, inactive after"),
        Column(
            "DETAIL", "str", "full name; what a rule allows; a key's type, fingerprint, comment and options"
        ),
        Column("MARK", "str", "what is unusual"),
        Column("FILE", "str", "the file that says so"),
        Column("LINE", "int", "line in that file; empty behind a part that is not in memory"),
    )

    moments = (Moment("CHANGED", "changed", "password changed"),)
    moment_text = ("NAME", "UID", "PASSWORD")

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return (*self.columns, _HASH) if options["secrets"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for kind in options["kind"]:
            if kind not in KINDS:
                raise OptionError(f"--kind {kind}: no such kind; there are {', '.join(KINDS)}")
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.host.account_book import AccountBook

        host = attempt("uname", lambda: kernel.system.uname().nodename)
        book = AccountBook(kernel.files, "" if isinstance(host, Unavailable) else host)
        for entry in book.entries():
            if options["marked"] and not entry.marks:
                continue
            if not options["kind"] or entry.kind.partition(" ")[0] in options["kind"]:
                yield _row(entry, options["secrets"])


def _row(entry: Entry, secrets: bool) -> Row:
    cells: tuple[Cell, ...] = (
        entry.kind,
        entry.name,
        entry.uid,
        entry.gid,
        entry.groups,
        entry.home,
        entry.shell,
        entry.password,
        entry.changed,
        entry.expires,
        entry.age,
        entry.detail,
        ", ".join(entry.marks) or None,
        entry.path,
        entry.line.number if entry.line else None,
    )
    sources = (Source(entry.path, *((entry.line.start, entry.line.end) if entry.line else ())),)
    return Row((*cells, entry.hash) if secrets else cells, sources=sources)


TOOL = Users()
