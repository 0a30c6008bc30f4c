"""persistence where memory lacks inodes: what nobody knows is said once, and marked as nothing."""

from __future__ import annotations

import errno
import os
import stat
from types import SimpleNamespace
from typing import Any, cast

from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.file_content import Piece, PieceKind
from hybridbridge_vol.tools.autostart import scripts, units
from hybridbridge_vol.tools.autostart.marks import Marker
from hybridbridge_vol.tools.autostart.places import Places, Start

NOT_IN_MEMORY = OSError(errno.EIO, "its inode is not in memory")
PROGRAM = FileAttributes(*(stat.S_IFREG | 0o755 if name == "mode" else 0 for name in FileAttributes._fields))
LINK = PROGRAM._replace(mode=stat.S_IFLNK | 0o777)


class Tree:
    """Files by their paths: names of a folder, the target of a link, the content of a file, or an error."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self._entries = entries

    def _at(self, path: str) -> Any:
        found = self._entries.get(path, OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
        if isinstance(found, OSError):
            raise found
        return found

    def listdir(self, path: str) -> list[str]:
        return list(self._at(path))

    def readlink(self, path: str) -> str:
        found = self._at(path)
        if isinstance(found, str):
            return found
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def attributes(self, path: str, follow: bool = False) -> FileAttributes:
        found = self._at(path)
        if isinstance(found, list):
            return PROGRAM._replace(mode=stat.S_IFDIR | 0o755, ino=1 + list(self._entries).index(path))
        if isinstance(found, str):
            return (
                self.attributes(os.path.normpath(os.path.join(os.path.dirname(path), found)))
                if follow
                else LINK
            )
        return PROGRAM._replace(size=len(found))

    def attributes_in(self, path: str, names: list[str]) -> dict[str, FileAttributes]:
        return {}

    def window(self, path: str, offset: int, size: int) -> list[Piece]:
        data = self._at(path)[offset : offset + size]
        return [Piece(PieceKind.DATA, offset, len(data), data)]


def places_of(entries: dict[str, Any]) -> Places:
    return Places(cast(Any, Tree(entries)))


def marker(places: Places) -> Marker:
    packages = SimpleNamespace(of=lambda _path: None, newest=None, are_known=False)
    return Marker(places, cast(Any, packages))


def test_a_link_of_a_run_level_that_is_not_in_memory_leads_nowhere_known() -> None:
    places = places_of({
        "/etc/init.d": ["one", "two", "three"],
        **{f"/etc/init.d/{name}": b"#!/bin/sh\n" for name in ("one", "two", "three")},
        "/etc/rc2.d": ["S01one", "S01two", "S02elsewhere"],
        "/etc/rc2.d/S01one": NOT_IN_MEMORY,
        "/etc/rc2.d/S01two": "../init.d/two",
        "/etc/rc2.d/S02elsewhere": "/opt/elsewhere",
    })  # fmt: skip
    rows = {start.path: start for start in scripts.starts(places)}
    states = {path: (start.state, start.marks) for path, start in rows.items()}
    assert states == {
        "/etc/init.d/one": (None, ()),
        "/etc/init.d/two": ("enabled", ()),
        "/etc/init.d/three": ("disabled", ()),
        "/opt/elsewhere": ("enabled", ("outside of /etc/init.d",)),
    }
    (lack,) = places.taken_lacks()
    assert (lack.path, lack.marks) == ("/etc/rc2.d/S01one", ())
    assert lack.lack is not None


def test_names_in_a_home_that_cannot_be_listed_are_not_made_up() -> None:
    places = places_of({
        "/etc/passwd": b"man:x:6:12:man:/var/cache/man:/bin/sh\n",
        "/var/cache/man": [],
        "/var/cache/man/.bashrc": NOT_IN_MEMORY,
        "/var/cache/man/.profile": b"/opt/start\n",
    })  # fmt: skip
    listed = places.files.listdir

    def listdir(path: str) -> list[str]:
        if path == "/var/cache/man":
            raise NOT_IN_MEMORY
        return listed(path)

    cast(Any, places.files).listdir = listdir
    rows = list(scripts.starts(places))
    assert [(start.path, start.what) for start in rows] == [("/var/cache/man/.profile", "/opt/start")]
    assert [start.path for start in places.taken_lacks()] == ["/var/cache/man"]


def test_a_file_of_which_nobody_knows_whether_it_is_there_has_no_mark() -> None:
    places = places_of({})
    unknown = Start("shell", "/etc/profile.d/.x.sh", attributes=None)
    assert marker(places).marks(unknown) == []
    assert marker(places).marks(unknown._replace(attributes=PROGRAM)) == ["hidden file"]


def test_a_file_that_cron_and_at_pass_over_is_not_marked_for_its_name() -> None:
    for kind, path in (("cron", "/etc/cron.d/.placeholder"), ("at", "/var/spool/cron/atjobs/.SEQ")):
        assert marker(places_of({})).marks(Start(kind, path, attributes=PROGRAM)) == []


def test_a_unit_that_starts_only_if_its_program_is_there_may_lack_it() -> None:
    """Debian's mdadm-shutdown.service, on a machine without dracut."""
    unit = b"[Unit]\nConditionFileIsExecutable=/usr/bin/dracut\n[Service]\nExecStop=/usr/bin/dracut --force\n"
    unit += b"ExecStart=/usr/bin/absent\n[Install]\nWantedBy=sysinit.target\n"
    folder = "/usr/lib/systemd/system"
    places = places_of({
        folder: ["a.service"], f"{folder}/a.service": unit,
        "/etc/systemd/system": ["sysinit.target.wants"],
        "/etc/systemd/system/sysinit.target.wants": ["a.service"],
        "/etc/systemd/system/sysinit.target.wants/a.service": f"{folder}/a.service",
    })  # fmt: skip
    rows = [start for start in units.starts(places) if start.path == f"{folder}/a.service"]
    marks = {start.what: marker(places).marks(start) for start in rows if start.state == "enabled"}
    assert marks == {"/usr/bin/dracut --force": [], "/usr/bin/absent": ["program does not exist"]}
