"""The guest's file system: an archive that others can read, with all that is asked for and what that
needs."""

from __future__ import annotations

import gzip
import lzma
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from package_makers import deb

from samples import guest_files
from samples.apt import AptError
from samples.guest_files import chosen
from samples.initramfs import Archive, link_target, needed_libraries, userland
from samples.modules import aliases, dependencies, load_order, softdeps
from samples.workload import ACTOR, ACTORS, USERS, workload


@dataclass(frozen=True)
class Entry:
    """One entry of a cpio archive; `device` is major and minor."""

    inode: int
    mode: int
    links: int
    device: tuple[int, int]
    data: bytes


def unpacked(archive: bytes) -> Iterator[dict[str, Entry]]:
    """The newc archives that follow one another, as the kernel's init/initramfs.c reads them: entries by
    name."""
    at, entries = 0, dict[str, Entry]()
    while at < len(archive):
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        inode, mode, _uid, _gid, links, _mtime, size, _major, _minor, major, minor, name_size, check = fields
        assert check == 0
        name = archive[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        start = (at + 110 + name_size + 3) & ~3
        data = archive[start : start + size]
        assert len(data) == size
        at = (start + size + 3) & ~3
        if name == b"TRAILER!!!\0":
            yield entries
            entries = {}
        else:
            text = name[:-1].decode("utf-8", "surrogateescape")
            assert text not in entries
            entries[text] = Entry(inode, mode, links, (major, minor), data)
    assert entries == {}


def test_an_archive_holds_files_links_folders_and_devices() -> None:
    archive = Archive()
    archive.add("usr/sbin/parent) S 1 (x", 0o100755, b"\x7fELF")
    archive.add("init", 0o100755, b"")
    archive.add("bin", 0o120777, b"usr/bin")
    archive.add("caf\u00e9/\udcff", 0o100644, bytes(range(256)))
    archive.add("dev/console", 0o20600, device=(5, 1))
    (entries,) = unpacked(archive.finished())
    assert {name: entry.data for name, entry in entries.items() if not stat.S_ISDIR(entry.mode)} == {
        "usr/sbin/parent) S 1 (x": b"\x7fELF",
        "init": b"",
        "bin": b"usr/bin",
        "caf\u00e9/\udcff": bytes(range(256)),
        "dev/console": b"",
    }
    assert stat.S_ISLNK(entries["bin"].mode)
    assert stat.S_ISCHR(entries["dev/console"].mode)
    assert entries["dev/console"].device == (5, 1)
    assert stat.S_IMODE(entries["init"].mode) == 0o755


def test_folders_come_by_themselves_before_what_is_in_them() -> None:
    archive = Archive()
    archive.add("a/b/c", 0o100644, b"1")
    archive.add("a/b/d", 0o100644, b"2")
    (entries,) = unpacked(archive.finished())
    assert list(entries) == ["a", "a/b", "a/b/c", "a/b/d"]
    assert stat.S_ISDIR(entries["a/b"].mode)


def test_of_two_entries_of_one_name_the_first_stays() -> None:
    archive = Archive()
    archive.add("file", 0o100644, b"first")
    archive.add("file", 0o100755, b"second")
    (entries,) = unpacked(archive.finished())
    assert entries["file"].data == b"first"


def test_no_two_entries_are_one_file() -> None:
    archive = Archive()
    for name in ("a/1", "a/2", "b"):
        archive.add(name, 0o100644)
    (entries,) = unpacked(archive.finished())
    assert len({entry.inode for entry in entries.values()}) == len(entries)
    assert {entry.links for entry in entries.values()} == {1}


@given(st.dictionaries(st.text("abc é", min_size=1, max_size=9), st.binary(max_size=9), max_size=5))
def test_archives_may_follow_one_another(files: dict[str, bytes]) -> None:
    archive = Archive()
    for name, data in files.items():
        archive.add(name, 0o100644, data)
    first, second = unpacked(archive.finished() + archive.finished())
    assert {name: entry.data for name, entry in first.items()} == files
    assert first == second


# Programs and what they need


@pytest.mark.parametrize("program", ["/bin/sh", "/usr/bin/env", "/bin/ls"])
def test_the_libraries_of_a_program_are_those_that_other_readers_find(program: str) -> None:
    elffile = pytest.importorskip("elftools.elf.elffile")
    with open(program, "rb") as stream:
        tags = elffile.ELFFile(stream).get_section_by_name(".dynamic").iter_tags("DT_NEEDED")
        expected = [tag.needed for tag in tags]
    assert expected
    assert needed_libraries(Path(program).read_bytes()) == expected


@given(st.binary(max_size=300), st.integers(0, 200))
def test_a_damaged_program_needs_nothing_or_something(junk: bytes, place: int) -> None:
    elf = bytearray(Path("/bin/sh").read_bytes()[:4096])
    elf[place : place + len(junk)] = junk
    assert all(isinstance(name, str) for name in needed_libraries(bytes(elf)))
    assert needed_libraries(junk) == []


@pytest.mark.parametrize(
    ("name", "link", "target"),
    [
        ("usr/bin/sh", "dash", "usr/bin/dash"),
        ("usr/bin/awk", "/etc/alternatives/awk", "etc/alternatives/awk"),
        ("usr/sbin/ip", "/bin/ip", "usr/bin/ip"),
        ("usr/lib64/ld.so", "../lib/x86_64-linux-gnu/ld.so", "usr/lib/x86_64-linux-gnu/ld.so"),
        ("usr/bin/x", "../../../../lib/y", "usr/lib/y"),
    ],
)
def test_links_are_followed_with_usr_merged(name: str, link: str, target: str) -> None:
    assert link_target(name, link) == target


def needing(*libraries: str) -> bytes:
    """A little ELF file with DT_NEEDED entries, one segment at address 0 and its dynamic section."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in libraries)
    offsets = [strings.index(name.encode() + b"\0") for name in libraries]
    start = 64 + 2 * 56
    dynamic = b"".join(struct.pack("<QQ", 1, offset) for offset in offsets)
    dynamic += struct.pack("<QQQQ", 5, start, 0, 0)
    size = start + len(strings) + len(dynamic)
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 1)
    table = struct.pack("<IIQQQQQQ", 2, 6, start + len(strings), 0, 0, len(dynamic), len(dynamic), 8)
    return head + load + table + strings + dynamic


def packages(folder: Path, *contents: list[tuple[str, int, bytes]]) -> list[Path]:
    """Debian packages with these files."""
    paths = []
    for index, entries in enumerate(contents):
        paths.append(folder / f"p{index}_1_amd64.deb")
        paths[-1].write_bytes(deb(entries, "none"))
    return paths


def test_programs_come_with_their_libraries_and_nothing_else(tmp_path: Path) -> None:
    paths = packages(
        tmp_path,
        [
            ("bin/tool", 0o100755, needing("libone.so.1")),
            ("bin/alias", 0o120777, b"tool"),
            ("usr/bin/other", 0o100755, needing("libnot.so.1")),
            ("usr/share/doc/tool", 0o100644, b"words"),
        ],
        [
            ("lib/x86_64-linux-gnu/libone.so.1", 0o120777, b"libone.so.1.2"),
            ("lib/x86_64-linux-gnu/libone.so.1.2", 0o100644, needing("libtwo.so.2")),
            ("usr/lib/x86_64-linux-gnu/libtwo.so.2", 0o100644, needing()),
            ("usr/lib/x86_64-linux-gnu/libthree.so.3", 0o100644, needing()),
            ("lib64/ld-linux-x86-64.so.2", 0o120777, b"/lib/x86_64-linux-gnu/libtwo.so.2"),
        ],
    )
    (entries,) = unpacked(userland(paths, ["usr/bin/(alias|missing)"]).finished())
    assert {name for name, entry in entries.items() if stat.S_ISREG(entry.mode)} == {
        "usr/bin/tool",
        "usr/lib/x86_64-linux-gnu/libone.so.1.2",
        "usr/lib/x86_64-linux-gnu/libtwo.so.2",
    }
    assert entries["usr/bin/alias"].data == b"tool"
    assert entries["usr/lib64/ld-linux-x86-64.so.2"].data == b"/lib/x86_64-linux-gnu/libtwo.so.2"
    assert {name: entries[name].data for name in ("bin", "sbin", "lib", "lib64")} == {
        "bin": b"usr/bin", "sbin": b"usr/sbin", "lib": b"usr/lib", "lib64": b"usr/lib64",
    }  # fmt: skip


def test_a_library_that_no_package_has_is_named(tmp_path: Path) -> None:
    paths = packages(tmp_path, [("bin/tool", 0o100755, needing("libgone.so.1"))])
    with pytest.raises(AptError, match=r"usr/bin/tool needs libgone\.so\.1"):
        userland(paths, ["usr/bin/tool"])


# Modules


def module(name: str, *needs: str, more: str = "retpoline=Y") -> bytes:
    """What matters of a kernel module: strings of its .modinfo."""
    return f"\0license=GPL\0depends={','.join(needs)}\0{more}\0name={name}\0".encode()


def kernel_package(folder: Path) -> Path:
    """A kernel package with modules, packed in each way that kernels pack them, two of which need each
    other."""
    base = "lib/modules/6.6.6/kernel/"
    path = folder / "linux-image-6.6.6-mini_1_amd64.deb"
    path.write_bytes(
        deb(
            [
                (base + "net/dummy.ko", 0o100644, module("dummy")),
                (base + "net/bridge.ko.xz", 0o100644, lzma.compress(module("bridge", "stp", "nf-base"))),
                (base + "net/stp.ko.gz", 0o100644, gzip.compress(module("stp", "nf_base"))),
                (
                    base + "net/nf-base.ko.zst",
                    0o100644,
                    zstandard.ZstdCompressor().compress(module("nf_base")),
                ),
                (base + "net/tun.ko", 0o100644, module("tun", "loop")),
                (base + "block/loop.ko", 0o100644, module("loop", "tun")),
            ]
        )
    )
    return path


def test_a_module_comes_after_those_that_it_depends_on(tmp_path: Path) -> None:
    order = load_order(kernel_package(tmp_path), ["bridge", "dummy"])
    assert [module.name for module in order] == ["nf_base", "stp", "bridge", "dummy"]
    assert all(module.data.startswith(b"\0license=GPL") and module.required for module in order)


def test_modules_that_a_kernel_lacks_are_left_out_and_circles_end(tmp_path: Path) -> None:
    order = load_order(kernel_package(tmp_path), ["none", "tun", "nf-base"])
    assert [module.name for module in order] == ["loop", "tun", "nf_base"]


def test_modules_are_chosen_by_patterns_of_their_names_those_named_first(tmp_path: Path) -> None:
    package = kernel_package(tmp_path)
    assert chosen(package, ["tun", "none"]) == ["tun", "none"]
    assert chosen(package, ["tun", "*", "!nf*"]) == ["tun", "bridge", "dummy", "loop", "stp"]
    assert chosen(package, ["nf?base", "[xyz]*"]) == ["nf_base"]


def test_what_a_module_asks_for_softly_comes_first_and_may_fail(tmp_path: Path) -> None:
    """libcrc32c names no module but an algorithm, which several drive, and some CPUs lack what the fast ones
    need."""
    modules = {
        "lib/libcrc32c": module("libcrc32c", more="softdep=pre: crc32c nf-base post: late"),
        "net/nf-base": module("nf_base", "llc"),
        "net/llc": module("llc"),
        "net/late": module("late"),
        "crypto/crc32c_generic": module("crc32c_generic", more="alias=crypto-crc32c\0alias=crc32c"),
        "arch/x86/crypto/crc32c-intel": module("crc32c_intel", more="alias=crc32c"),
        "crypto/sha": module("sha", more="alias=sha1"),
        "drivers/other": module("other", more="alias=crc32c"),
    }
    path = tmp_path / "linux-image-6.6.6-soft_1_amd64.deb"
    path.write_bytes(
        deb([(f"lib/modules/6.6.6/kernel/{name}.ko", 0o100644, data) for name, data in modules.items()])
    )
    order = load_order(path, ["libcrc32c"])
    expected = [
        ("crc32c_generic", False),
        ("crc32c_intel", False),
        ("llc", False),
        ("nf_base", False),
        ("libcrc32c", True),
    ]
    assert [(module.name, module.required) for module in order] == expected
    assert {module.name: module.required for module in load_order(path, ["libcrc32c", "crc32c-generic"])}[
        "crc32c_generic"
    ]


def test_softdeps_are_what_modinfo_says() -> None:
    assert softdeps(module("x", more="softdep=pre: a b-c post: d\0softdep=pre: e")) == ["a", "b-c", "e"]
    assert softdeps(b"no module") == []


@given(st.binary(max_size=80))
def test_no_module_brings_the_reader_of_modinfo_down(data: bytes) -> None:
    for read in (dependencies, softdeps, aliases):
        assert all(isinstance(name, str) for name in read(data))
        assert all(
            isinstance(name, str) for name in read(b"\0depends=" + data + b"\0softdep=pre: " + data + b"\0")
        )


def test_dependencies_have_underscores() -> None:
    assert dependencies(module("x", "nf-conntrack", "llc")) == ["nf_conntrack", "llc"]
    assert dependencies(module("x")) == []
    assert dependencies(b"no module") == []


# All together


@pytest.mark.parametrize("light", [True, False])
def test_the_guest_gets_its_init_its_workload_its_plan_and_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, light: bool
) -> None:
    monkeypatch.setattr(guest_files, "debian_files", lambda _recipe: Archive().finished())
    monkeypatch.setattr(guest_files, "compile_static", lambda source: source.name.encode())
    debian, ours = unpacked(guest_files.initramfs(kernel_package(tmp_path), guest_files.recipe(9, light, 3)))
    assert debian == {}
    assert ours["init"].data.startswith(b"#!/bin/sh")
    assert ours["srv/workload.sh"].data.decode("utf-8", "surrogateescape") == workload(9, light, 3)
    assert b"settle" in ours["srv/plan"].data
    assert ours["etc/hostname"].data == b"sample-9\n"
    assert ours["usr/libexec/observer"].data == b"observer.c"
    assert {ours[name].data for name in ACTORS} == {f"/{ACTOR}".encode()}
    assert ours[ACTOR].data == b"actor.c"
    accounts = [line.split(":") for line in ours["etc/passwd"].data.decode().splitlines()]
    assert {fields[0]: int(fields[2]) for fields in accounts} == USERS
    loaded = ours["usr/lib/modules/order"].data.decode().splitlines()
    assert loaded == (["dummy"] if light else ["dummy", "nf_base", "stp", "bridge", "tun", "loop"])
    assert all(f"usr/lib/modules/{name}.ko" in ours for name in loaded)
    # what no package has and the kernel needs before anything runs
    assert ours["dev/console"].device == (5, 1)
