"""Packages by name: which archive is asked, what is fetched, and what is said when there is nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybridbridge_vol.workflow.fetch.apt_sources import (
    Source,
    debian_archives,
    machine_sources,
    parse_deb822,
    parse_list,
)
from samples.apt import AptError, cache_folder, candidates, download, parse_depends, with_libraries

BOOKWORM = ("bookworm",)


def test_one_line_sources_are_read_with_the_options_that_decide_about_trust() -> None:
    text = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/key.gpg] http://deb.example/debian/ bookworm main contrib # ours
deb-src http://deb.example/debian bookworm main
deb http://deb.example/debian bookworm contrib
  deb http://deb.example/debian bookworm-updates main
"""
    assert list(parse_list(text)) == [
        Source("http://deb.example/debian", "bookworm", ("signed-by=/usr/share/keyrings/key.gpg",)),
        Source("http://deb.example/debian", "bookworm-updates"),
    ]


def test_deb822_sources_are_read_paragraph_by_paragraph() -> None:
    text = """\
# the mirror
Types: deb deb-src
URIs: http://deb.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/key.gpg

Types: deb
URIs: http://deb.example/elsewhere
Suites: stable
Components: main
Enabled: no

Types: deb
URIs: http://deb.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""
    key = ("signed-by=/usr/share/keyrings/key.gpg",)
    assert list(parse_deb822(text)) == [
        Source("http://deb.example/debian", "bookworm", key),
        Source("http://deb.example/debian", "bookworm-updates", key),
        Source("http://deb.example/debian-security", "bookworm-security"),
    ]


def test_both_styles_of_a_machine_s_sources_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/debian sid main\n")
    deb822 = "Types: deb\nURIs: http://b.example/x\nSuites: sid\nComponents: main\n"
    (tmp_path / "sources.list.d" / "b.sources").write_text(deb822)
    (tmp_path / "sources.list.d" / "c.sources.disabled").write_text(deb822)
    assert [source.uri for source in machine_sources(tmp_path)] == [
        "http://a.example/debian",
        "http://b.example/x",
    ]


def test_debian_s_own_archive_is_told_from_a_vendor_s() -> None:
    vendor = Source("http://vendor.example/debian", "bookworm")
    main = Source("http://mirror.example/pub/os", "bookworm")
    updates = Source("http://mirror.example/pub/os", "bookworm-updates")
    security = Source("http://mirror.example/security", "bookworm-security")
    assert debian_archives([vendor, main, updates, security]) == (main, security)
    assert debian_archives([Source("http://vendor.example/tools", "stable"), vendor]) == (vendor, None)


def test_a_machine_without_a_debian_mirror_is_told() -> None:
    with pytest.raises(AptError, match="no Debian mirror"):
        debian_archives([Source("http://vendor.example/tools", "stable")])


def test_other_suites_are_asked_of_the_same_mirror() -> None:
    source = Source("http://deb.example/debian", "bookworm", ("trusted=yes",))
    assert source.line("sid") == "deb [arch=amd64 trusted=yes] http://deb.example/debian sid main"


def test_the_cache_is_the_user_s_unless_another_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HB_SAMPLES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/hybridbridge/samples")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/alice")
    assert cache_folder() == Path("/home/alice/.cache/hybridbridge/samples")
    monkeypatch.setenv("HB_SAMPLES", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")


def test_packages_come_in_the_order_asked_for_and_only_once(mirror: Path) -> None:
    files = download(["zlib1g", "libgcc-s1"], BOOKWORM)
    assert [file.name for file in files] == ["zlib1g_1_amd64.deb", "libgcc-s1_1_amd64.deb"]
    assert [file.read_bytes() for file in files] == [
        (mirror / "debian" / "pool" / file.name).read_bytes() for file in files
    ]
    os.utime(files[0], (1, 1))
    assert download(["zlib1g"], BOOKWORM)[0].stat().st_mtime == 1


def test_what_apt_computes_from_its_lists_is_kept_whatever_the_machine_says(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container image's apt keeps none of it, and computes it anew for each question, in seconds."""
    (tmp_path / "apt.conf").write_text('Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    kept = mirror / "cache" / "apt" / "trixie" / "cache" / "pkgcache.bin"
    assert not kept.exists()
    assert candidates("linux-image-6[.]12.*-amd64", ("trixie",))
    assert kept.stat().st_size > 0


@pytest.mark.usefixtures("mirror")
def test_a_package_that_no_suite_has_is_named_in_one_line() -> None:
    with pytest.raises(AptError, match="no-such-package") as caught:
        download(["zlib1g", "no-such-package"], BOOKWORM)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("mirror")
def test_libraries_come_along_and_nothing_else_that_installing_would_take() -> None:
    names = with_libraries(["procps"], BOOKWORM)
    assert sorted(names) == ["libc6", "libelogind0", "libgcc-s1", "libproc2-0", "procps", "zlib1g"]


def test_of_alternatives_the_last_counts_and_virtual_packages_do_not() -> None:
    text = """\
procps
  Depends: libc6
 |Depends: libsystemd0
  Depends: libelogind0
  PreDepends: zlib1g
  Depends: <awk>
    mawk
libc6
"""
    assert parse_depends(text) == {"procps": ["libc6", "libelogind0", "zlib1g"], "libc6": []}
