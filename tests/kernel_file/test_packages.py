"""Packages: every way they are packed, what a kernel is called in them, and hostile ones."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from package_makers import PACKERS, ar, cpio_entry, deb, rpm, rpm_of, tar

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.packages import Member, dependencies, members, read_vmlinuz

FILES = [
    ("boot/System.map-6.6.6", 0o100600, b"map"),
    ("boot/vmlinuz-6.6.6", 0o100644, b"the kernel"),
    ("usr/bin", 0o040755, b""),
    ("usr/bin/setuid", 0o104755, b"\x7fELF program"),
    ("usr/bin/link", 0o120777, b"setuid"),
    ("usr/lib/empty", 0o100644, b""),
    ("usr/lib/" + "deep/" * 40 + "long", 0o100640, b"x" * 1025),
]
AS_MEMBERS = [
    Member(
        name,
        mode & 0o7777,
        data.decode() if mode & 0o170000 == 0o120000 else "",
        b"" if mode >> 12 == 0o12 else data,
    )
    for name, mode, data in FILES
    if mode & 0o170000 != 0o040000
]
TAR_FORMATS = {"GNU": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
DEB_METHODS = ["none", "gzip", "xz", "zstd", "bzip2"]
RPM_METHODS = ["gzip", "xz", "zstd", "lzma", "bzip2"]
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("method", DEB_METHODS)
@pytest.mark.parametrize("format", sorted(TAR_FORMATS))
def test_a_deb_gives_its_files_and_links(tmp_path: Path, method: str, format: str) -> None:
    path = put(tmp_path, "mini.deb", deb(FILES, method, format=TAR_FORMATS[format]))
    assert list(members(path)) == AS_MEMBERS


@pytest.mark.parametrize("method", RPM_METHODS)
def test_an_rpm_gives_its_files_and_links(tmp_path: Path, method: str) -> None:
    path = put(tmp_path, "mini.rpm", rpm(FILES, method))
    assert list(members(path)) == AS_MEMBERS


@pytest.mark.parametrize("make", [deb, rpm])
def test_members_are_chosen_by_patterns(tmp_path: Path, make: type) -> None:
    path = put(tmp_path, "mini.package", make(FILES))
    assert [member.name for member in members(path, "usr/bin/*", "*/empty")] == [
        "usr/bin/setuid",
        "usr/bin/link",
        "usr/lib/empty",
    ]


def test_a_hard_link_in_a_deb_leads_to_its_file(tmp_path: Path) -> None:
    path = tmp_path / "hard.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("./usr/bin/perl5")
        info.type, info.linkname = tarfile.LNKTYPE, "./usr/bin/perl"
        archive.addfile(info)
    package = put(tmp_path, "hard.deb", ar([("debian-binary", b"2.0\n"), ("data.tar", path.read_bytes())]))
    assert [(member.name, member.link) for member in members(package)] == [("usr/bin/perl5", "/usr/bin/perl")]


def test_hard_links_in_an_rpm_all_have_the_contents_that_only_the_last_carries(tmp_path: Path) -> None:
    payload = (
        cpio_entry("./boot/vmlinuz-6.6.6", 0o100644, b"", ino=7, links=3)
        + cpio_entry("./boot/alone", 0o100644, b"alone", ino=8)
        + cpio_entry("./boot/not asked for", 0o100644, b"", ino=7, links=3)
        + cpio_entry("./boot/zlinuz", 0o100644, b"the kernel", ino=7, links=3)
        + cpio_entry("./boot/empty", 0o100600, b"", ino=9, links=2)
        + cpio_entry("TRAILER!!!", 0, b"")
    )
    path = put(tmp_path, "hard.rpm", rpm_of(payload))
    assert list(members(path, "*linuz*", "*e*t*y")) == [
        Member("boot/vmlinuz-6.6.6", 0o644, "", b"the kernel"),
        Member("boot/zlinuz", 0o644, "", b"the kernel"),
        Member("boot/empty", 0o600, "", b""),
    ]
    assert read_vmlinuz(path) == b"the kernel"


@pytest.mark.parametrize("make", [deb, rpm])
@pytest.mark.parametrize(
    "name", ["boot/vmlinuz-6.6.6", "lib/modules/6.6.6/vmlinuz", "usr/lib/modules/6.6.6/vmlinuz"]
)
def test_a_kernel_is_found_wherever_distributions_put_it(tmp_path: Path, make: type, name: str) -> None:
    entries = [
        ("boot/vmlinuz", 0o120777, b"vmlinuz-6.6.6"),
        ("boot/initrd", 0o100644, b"no"),
        (name, 0o100644, b"yes"),
    ]
    assert read_vmlinuz(put(tmp_path, "mini.package", make(entries))) == b"yes"


def test_a_file_that_is_not_a_package_is_the_kernel_itself(tmp_path: Path) -> None:
    assert read_vmlinuz(put(tmp_path, "vmlinuz", b"MZ kernel")) == b"MZ kernel"


def test_dependencies_are_given_in_the_packages_own_words(tmp_path: Path) -> None:
    control = "Package: meta\nDepends: linux-image-6.6 (= 6.6.6-1), linux-base | base\nSection: kernel\n"
    assert dependencies(put(tmp_path, "meta.deb", deb([], control=control))) == [
        "linux-image-6.6 (= 6.6.6-1)",
        "linux-base | base",
    ]
    assert dependencies(put(tmp_path, "meta.rpm", rpm([], requires=["kernel-core", "/bin/sh"]))) == [
        "kernel-core",
        "/bin/sh",
    ]


@pytest.mark.parametrize(
    ("package", "named"),
    [
        (
            deb([], control="Package: m\nDepends: linux-base, linux-image-6.6 (= 6.6.6-1)\n"),
            r"linux-image-6.6 \(= 6.6.6-1\)",
        ),
        (rpm([], requires=["/bin/sh", "kernel-core-uname-r"]), "kernel-core-uname-r"),
        (deb([]), "the kernel's own package"),
    ],
)
def test_a_package_without_a_kernel_names_the_one_to_give(tmp_path: Path, package: bytes, named: str) -> None:
    path = put(tmp_path, "meta", package)
    with pytest.raises(KernelFileError, match=f"^{path}: a package without a kernel .*{named}"):
        read_vmlinuz(path)


def test_a_directory_a_pipe_and_a_missing_file_are_reported_as_such(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in (
        (tmp_path, "a directory"),
        (pipe, "not a regular file"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(KernelFileError, match=f"^{path}: .*{reason}"):
            read_vmlinuz(path)


@pytest.mark.parametrize("method", ["gzip", "xz", "zstd", "bzip2"])
@pytest.mark.parametrize("make", [deb, rpm])
def test_a_truncated_package_is_reported_by_name(tmp_path: Path, make: type, method: str) -> None:
    whole = make([("boot/vmlinuz-6.6.6", 0o100644, os.urandom(200_000))], method)
    path = put(tmp_path, "cut.package", whole[: len(whole) - 100_000])
    with pytest.raises(KernelFileError, match=f"^{path}: damaged package .*; fetch it again$"):
        read_vmlinuz(path)


def test_an_ar_member_of_negative_size_is_refused(tmp_path: Path) -> None:
    header = f"{'control.tar':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{-60:<10}`\n".encode()
    with pytest.raises(KernelFileError, match="damaged package"):
        read_vmlinuz(put(tmp_path, "circle.deb", b"!<arch>\n" + header))


@pytest.mark.parametrize("kind", [b"x", b"L", b"0"])
def test_an_absurd_size_in_a_tar_is_not_allocated(tmp_path: Path, kind: bytes) -> None:
    header = bytearray(tar([("boot/vmlinuz", 0o100644, b"")])[:512])
    header[156:157] = kind
    header[124:136] = b"\x80" + (1 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    package = ar(
        [("debian-binary", b"2.0\n"), ("data.tar.gz", PACKERS["gzip"](bytes(header) + bytes(1 << 22)))]
    )
    with pytest.raises(KernelFileError, match="an absurd size"):
        read_vmlinuz(put(tmp_path, "absurd.deb", package))


@pytest.mark.parametrize("offset", [0, 512])
def test_a_damaged_header_in_a_tar_is_not_taken_for_its_end(tmp_path: Path, offset: int) -> None:
    data = bytearray(tar([("boot/System.map", 0o100644, b""), ("boot/vmlinuz", 0o100644, b"the kernel")]))
    data[offset + 10] ^= 1
    package = put(tmp_path, "bad.deb", ar([("debian-binary", b"2.0\n"), ("data.tar", bytes(data))]))
    with pytest.raises(KernelFileError, match=r"damaged package \(bad checksum\)"):
        list(members(package))


def test_a_tar_without_its_end_is_damaged(tmp_path: Path) -> None:
    whole = tar([("boot/System.map", 0o100644, b"")])
    package = put(tmp_path, "cut.deb", ar([("debian-binary", b"2.0\n"), ("data.tar", whole[:512])]))
    with pytest.raises(KernelFileError, match=r"damaged package \(truncated\)"):
        list(members(package))


def test_headers_of_a_tar_do_not_take_all_memory(tmp_path: Path) -> None:
    """A sparse map, which is read as a whole: 4 MiB of one-digit numbers."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as writer:
        info = tarfile.TarInfo("boot/vmlinuz")
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "boot/vmlinuz",
        }
        body = b"%d\n" % (1 << 20) + b"1\n" * (1 << 21)
        info.size = len(body)
        writer.addfile(info, io.BytesIO(body))
    parts = [("debian-binary", b"2.0\n"), ("data.tar.gz", PACKERS["gzip"](archive.getvalue()))]
    with pytest.raises(KernelFileError, match="an absurd size"):
        list(members(put(tmp_path, "sparse.deb", ar(parts))))


@FUZZ
@given(
    make=st.sampled_from([deb, rpm]),
    method=st.sampled_from(["gzip", "xz", "zstd", "bzip2"]),
    place=st.integers(0, 100_000),
    junk=st.binary(min_size=1, max_size=16),
)
def test_damage_anywhere_raises_nothing_but_kernel_file_errors(
    tmp_path: Path, make: type, method: str, place: int, junk: bytes
) -> None:
    data = bytearray(make(FILES, method))
    place %= len(data)
    data[place : place + len(junk)] = junk
    path = put(tmp_path, "damaged", bytes(data))
    try:
        list(members(path))
        dependencies(path)
        read_vmlinuz(path)
    except KernelFileError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


@FUZZ
@given(head=st.sampled_from([b"!<arch>\n", b"\xed\xab\xee\xdb"]), rest=st.binary(max_size=3000))
def test_random_packages_raise_nothing_but_kernel_file_errors(
    tmp_path: Path, head: bytes, rest: bytes
) -> None:
    with pytest.raises(KernelFileError):
        list(members(put(tmp_path, "random", head + rest)))


@FUZZ
@given(place=st.integers(0, 10_000), junk=st.binary(min_size=1, max_size=16))
def test_damaged_tars_and_cpios_raise_nothing_but_kernel_file_errors(
    tmp_path: Path, place: int, junk: bytes
) -> None:
    for package in (deb(FILES, "none"), rpm(FILES, "none")):
        data = bytearray(package)
        at = place % len(data)
        data[at : at + len(junk)] = junk
        try:
            list(members(put(tmp_path, "damaged", bytes(data))))
        except KernelFileError as error:
            assert "\n" not in str(error)
