"""Which package has brought a file, by the lists of four package managers, whole or in part."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_files import LiveFiles

from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.file_content import Piece, PieceKind
from hybridbridge_vol.kernel_file.packages import members
from hybridbridge_vol.tools.autostart.package_lists import APK, DPKG, OTHER_RPM, PACMAN, RPM
from hybridbridge_vol.tools.autostart.packages import Packages
from hybridbridge_vol.tools.autostart.rpm_header import parse_rpm_header
from samples.apt import download, own_suite, with_libraries
from samples.unpacked import unpacked

INSTALLED = 1_700_000_000
APK_LIST = b"""P:busybox
V:1.36.1-r5
F:bin
R:busybox
a:0:0:755
Z:Q1pu1Ztq
F:etc
F:etc/init.d
R:crond

P:musl
F:lib
R:ld-musl-x86_64.so.1
Z:Q1x

P:last
F:usr/sbin
R:last
"""
SPEC = """Name: tool
Version: 1
Release: 2
Summary: a tool
License: MIT
BuildArch: noarch
%description
a tool
%install
mkdir -p %{buildroot}/usr/lib/systemd/system %{buildroot}/etc/tool.d
echo one > %{buildroot}/usr/lib/systemd/system/tool.service
echo two > %{buildroot}/etc/tool.d/one
%files
/usr/lib/systemd/system/tool.service
%dir /etc/tool.d
%config /etc/tool.d/one
"""


class GuestFolder(LiveFiles):
    """A guest's files in a folder of this machine; `lost` are paths of which the first page is missing."""

    def __init__(self, root: Path, lost: tuple[str, ...] = ()) -> None:
        super().__init__({})
        self.root = str(root)
        self.lost = lost

    def attributes(self, path: str, follow: bool = False) -> FileAttributes:
        return super().attributes(self.root + path, follow)

    def listdir(self, path: str) -> list[str]:
        return super().listdir(self.root + path)

    def window(self, path: str, offset: int, size: int) -> Iterator[Piece]:
        if path not in self.lost:
            yield from super().window(self.root + path, offset, size)
            return
        page = min(4096, size)
        yield Piece(PieceKind.MISSING, offset, page)
        if size > page:
            yield from super().window(self.root + path, offset + page, size - page)


def put(root: Path, path: str, data: bytes) -> None:
    target = root / path[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    os.utime(target, (INSTALLED, INSTALLED))


def owners(packages: Packages, *paths: str) -> list[str | None]:
    found = (packages.of(path) for path in paths)
    return [package.name if package else None for package in found]


def test_dpkg_has_a_list_for_each_package(tmp_path: Path) -> None:
    put(tmp_path, f"{DPKG}/cron.list", b"/.\n/usr/sbin/cron\n")
    put(tmp_path, f"{DPKG}/libpam:amd64.list", b"/lib/x86_64-linux-gnu/libpam.so.0\n")
    put(tmp_path, f"{DPKG}/cron.md5sums", b"x")
    packages = Packages(GuestFolder(tmp_path))
    assert owners(packages, "/sbin/cron", "/usr/lib/x86_64-linux-gnu/libpam.so.0", "/sbin/x") == [
        "cron", "libpam", None,
    ]  # fmt: skip
    assert packages.are_known and packages.newest == INSTALLED
    packages = Packages(GuestFolder(tmp_path, (f"{DPKG}/cron.list",)))
    assert packages.lack and "1 of 2 lists" in packages.lack.reason
    assert (packages.lacking_path, packages.are_known) == (DPKG, False)


@pytest.mark.parametrize("path", APK)
def test_apk_has_one_file_for_all_packages(tmp_path: Path, path: str) -> None:
    put(tmp_path, path, APK_LIST)
    packages = Packages(GuestFolder(tmp_path))
    found = owners(packages, "/bin/busybox", "/etc/init.d/crond", "/lib/ld-musl-x86_64.so.1", "/sbin/last")
    assert found == ["busybox", "busybox", "musl", "last"]
    assert packages.are_known and packages.newest == INSTALLED


def test_of_apk_s_file_the_paragraphs_that_are_there_count(tmp_path: Path) -> None:
    many = b"".join(b"P:p%d\nF:opt\nR:f%d\n\n" % (number, number) for number in range(1000))
    put(tmp_path, APK[0], many)
    packages = Packages(GuestFolder(tmp_path, (APK[0],)))
    assert owners(packages, "/opt/f0", "/opt/f999") == [None, "p999"]
    first = next(number for number in range(1000) if packages.of(f"/opt/f{number}"))
    assert many.index(b"P:p%d\n" % first) >= 4096 > many.index(b"P:p%d\n" % (first - 1))
    assert packages.lack and "4,096 of its" in packages.lack.reason and not packages.are_known


def test_pacman_has_a_folder_for_each_package(tmp_path: Path) -> None:
    listed = b"%FILES%\nusr/\nusr/lib/\nusr/lib/systemd/system/cronie.service\n\n%BACKUP%\netc/x\t0123\n"
    put(tmp_path, f"{PACMAN}/cronie-extra-1.7.2-1/files", listed)
    put(tmp_path, f"{PACMAN}/ALPM_DB_VERSION", b"9\n")
    packages = Packages(GuestFolder(tmp_path))
    assert owners(packages, "/usr/lib/systemd/system/cronie.service", "/etc/x") == ["cronie-extra", None]
    assert packages.are_known and packages.newest == INSTALLED


def header(name: str, files: dict[str, list[str]]) -> bytes:
    """As rpm keeps it (RPM file format), with the tags that are looked at and another one."""
    folders = list(files)
    pairs = [(number, file) for number, folder in enumerate(folders) for file in files[folder]]
    strings = [(1000, 6, [name]), (1004, 9, ["a summary"]), (1117, 8, [file for _folder, file in pairs]),
               (1118, 8, folders)]  # fmt: skip
    numbers = [(1008, [INSTALLED]), (1116, [folder for folder, _file in pairs])]
    index, store = b"", b""
    for tag, values in numbers:
        index += struct.pack(">IIII", tag, 4, len(store), len(values))
        store += struct.pack(f">{len(values)}I", *values)
    for tag, kind, texts in strings:
        index += struct.pack(">IIII", tag, kind, len(store), len(texts))
        store += b"".join(text.encode() + b"\0" for text in texts)
    return struct.pack(">II", len(index) // 16, len(store)) + index + store


def database(root: Path, path: str, blobs: list[bytes]) -> None:
    put(root, path, b"")
    with closing(sqlite3.connect(root / path[1:])) as connection:
        connection.execute(
            "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"
        )
        connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
        connection.commit()


@pytest.mark.parametrize("path", RPM)
def test_rpm_has_a_database_of_headers(tmp_path: Path, path: str) -> None:
    cron = header("cronie", {"/etc/": ["crontab", "cron.d"], "/usr/sbin/": ["crond"]})
    database(tmp_path, path, [cron, header("empty", {}), b"\0\0\0\1damaged"])
    packages = Packages(GuestFolder(tmp_path))
    assert owners(packages, "/etc/crontab", "/usr/sbin/crond", "/etc/crond") == ["cronie", "cronie", None]
    assert packages.newest == INSTALLED
    assert packages.lack and packages.lack.reason == f"{path}: 1 packages are damaged"
    packages = Packages(GuestFolder(tmp_path, (path,)))
    assert packages.lack and "a database, not read: 4,096 of its" in packages.lack.reason
    put(tmp_path, path, b"SQLite format 3\0" + bytes(8000))
    packages = Packages(GuestFolder(tmp_path))
    assert packages.lack and "not a database of packages" in packages.lack.reason


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    database(tmp_path, RPM[0], [header("tool", {"/": ["tool"]})])
    put(tmp_path, f"{RPM[0]}-wal", b"x")
    packages = Packages(GuestFolder(tmp_path))
    assert packages.lack and "-wal) is not read" in packages.lack.reason
    for path, kind in OTHER_RPM.items():
        other = tmp_path / path.replace("/", "_")
        put(other, path, b"x")
        packages = Packages(GuestFolder(other))
        assert packages.lack and packages.lack.reason.startswith(f"{path}: a database of {kind}")
        assert packages.lacking_path == path


def test_a_guest_without_a_package_manager_says_so(tmp_path: Path) -> None:
    packages = Packages(GuestFolder(tmp_path))
    assert packages.lack and "no package manager's lists" in packages.lack.reason
    assert (packages.lacking_path, packages.newest, packages.are_known) == (DPKG, None, False)


@given(st.binary(max_size=200), st.integers(0, 2**32))
def test_any_header_is_parsed_or_refused(data: bytes, seed: int) -> None:
    parse_rpm_header(data)
    whole = bytearray(header("tool", {"/usr/bin/": ["tool", "more"]}))
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 4)):
        whole[draw.randrange(len(whole))] = draw.randrange(256)
    found = parse_rpm_header(bytes(whole))
    assert found is None or all(isinstance(path, str) for path in found.paths)


@pytest.mark.slow
def test_the_database_of_a_real_rpm_is_read(tmp_path: Path) -> None:
    """Debian's own rpm makes a package, and installs it into a database."""
    suites = (own_suite(),)
    names = ("rpm", "rpm-common", "librpm9", "librpmio9", "librpmbuild9", "librpmsign9")
    tree = unpacked("rpm", download(with_libraries(names, suites), suites), _unpack)
    library = tree / "usr/lib/x86_64-linux-gnu"
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "RPM_CONFIGDIR": str(tree / "usr/lib/rpm")}

    def run(*words: str | Path) -> str:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    (tmp_path / "tool.spec").write_text(SPEC)
    define = ("--define", f"_topdir {tmp_path / 'top'}")
    run(tree / "usr/bin/rpmbuild", "-bb", *define, tmp_path / "tool.spec")
    (package,) = (tmp_path / "top").rglob("*.rpm")
    folder = tmp_path / "guest" / Path(RPM[0]).parent.relative_to("/")
    rpm = (tree / "usr/bin/rpm", "--dbpath", folder)
    run(*rpm, "-i", "--justdb", "--nodeps", "--nosignature", "--force-debian", package)
    listed = run(*rpm, "-ql", "tool").split()
    packages = Packages(GuestFolder(tmp_path / "guest"))
    assert len(listed) == 3 and owners(packages, *listed) == ["tool"] * 3
    assert packages.newest == float(run(*rpm, "-q", "--qf", "%{INSTALLTIME}", "tool"))
    assert packages.are_known


def _unpack(package: Path, target: Path) -> None:
    for member in members(package):
        path = target / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.link:
            path.symlink_to(member.link)
        else:
            path.write_bytes(member.data)
            path.chmod(member.mode & 0o777)
