"""A kernel of Debian, Ubuntu or their like by apt: from this machine's own sources, and for Debian also from
the other suites of the same mirror."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from hybridbridge_vol.errors import FetchError
from hybridbridge_vol.kernel_file import packages
from hybridbridge_vol.snapshot.kernel_origin import KernelOrigin
from hybridbridge_vol.trust.store import user_cache
from hybridbridge_vol.units import Progress
from hybridbridge_vol.workflow.fetch import apt, apt_sources

OS_RELEASE = Path("/etc/os-release")
_SUITES = ("stable", "oldstable", "unstable", "oldoldstable", "testing", "experimental")
"""Debian's names for whatever its releases are at the moment (the mirrors' dists/README)."""
_WITH_SECURITY = ("stable", "oldstable", "oldoldstable")
_WITH_BACKPORTS = ("stable", "oldstable")
_PARTS = ("linux-image-", "linux-binary-", "linux-modules-")
"""Packages that a kernel's package may need for the kernel itself and its modules."""
_MOST_PACKAGES = 8
"""A kernel is in one to four packages."""


def is_served(distribution: str) -> bool:
    """Whether this machine's apt sources may have packages of a distribution: its own or Debian's."""
    sources = apt_sources.machine_sources(apt_sources.SOURCES)
    if distribution.lower() in own_distribution():
        return bool(sources)
    try:
        return distribution == "Debian" and bool(apt_sources.debian_archives(sources))
    except FetchError:
        return False


def fetch_by_apt(origin: KernelOrigin, folder: Path, progress: Progress | None = None) -> list[Path]:
    """Fetch the packages of a kernel and of its modules into `folder`; their paths, sorted.

    FetchError says what this machine's mirrors have instead. apt checks the signatures of its lists, and
    every package against these.
    """
    report = progress or (lambda _fraction, _text: None)
    others: list[str] = []
    problems: list[str] = []
    for name, lines in _archives(origin.distribution):
        report(0.1, f"asking apt for {origin.packages[0]} ({name})")
        try:
            state = apt.apt_state(state_folder() / "apt" / name, lines)
            known = apt.apt_versions(state, origin.packages)
        except FetchError as error:
            problems.append(str(error))
            continue
        fitting = [item for item in known if origin.version in (None, item[1])]
        if fitting:
            report(0.5, f"apt fetches {fitting[0][0]}")
            return _fetch(state, fitting[0], origin, folder)
        others += [version for _package, version in known]
    raise FetchError(_not_served(origin, others, problems))


def state_folder() -> Path:
    """Where lists of packages are kept between runs: below the user's cache folder."""
    return user_cache() / "packages"


def _archives(distribution: str) -> Iterator[tuple[str, list[str]]]:
    """`(name, lines of a sources.list)` of the archives to ask, one after the other."""
    sources = [source.signed() for source in apt_sources.machine_sources(apt_sources.SOURCES)]
    if distribution.lower() in own_distribution():
        yield "own", list(dict.fromkeys(source.line(source.suite) for source in sources))
    if distribution != "Debian":
        return
    main, security = apt_sources.debian_archives(sources)
    for suite in _SUITES:
        yield suite, [main.line(suite)]
        if suite in _WITH_SECURITY and security:
            yield f"{suite}-security", [security.line(f"{suite}-security")]
    for suite in _WITH_BACKPORTS:
        yield f"{suite}-backports", [main.line(f"{suite}-backports")]


def own_distribution() -> tuple[str, ...]:
    """What this machine's distribution calls itself (os-release(5), ID)."""
    try:
        text = OS_RELEASE.read_text(errors="replace")
    except OSError:
        return ()
    return tuple(re.findall(r"^ID=\"?([\w.-]+)", text, re.MULTILINE))


def _fetch(state: Path, chosen: tuple[str, str], origin: KernelOrigin, folder: Path) -> list[Path]:
    """The chosen package, what it needs of the same kernel, and further modules' packages that exist."""
    apt.apt_download(state, ["=".join(chosen)], folder)
    waiting = apt.apt_versions(state, origin.modules)
    waiting = [item for item in waiting if item[1] == chosen[1]]
    read: set[Path] = set()
    asked = {chosen[0]}
    for _ in range(_MOST_PACKAGES):
        for path in set(folder.glob("*.deb")) - read:
            read.add(path)
            waiting += _needed(path, origin.release)
        waiting = [item for item in waiting if item[0] not in asked]
        if not waiting:
            break
        name, version = waiting.pop()
        asked.add(name)
        with contextlib.suppress(FetchError):  # whether what came is enough is seen when it is read
            apt.apt_download(state, [f"{name}={version}" if version else name], folder)
    return sorted(folder.glob("*.deb"))


def _needed(path: Path, release: str) -> list[tuple[str, str]]:
    """`(name, version)` of the packages with parts of the kernel `release` that a package depends on; no
    version: any."""
    found = []
    for item in packages.dependencies(path):
        match = re.match(r"([a-z0-9.+-]+)(?: \(= ([^)\s]+)\))?", item)
        if match and match[1].startswith(_PARTS) and release in match[1]:
            found.append((match[1], match[2] or ""))
    return found


def _not_served(origin: KernelOrigin, others: list[str], problems: list[str]) -> str:
    version = f" {origin.version}" if origin.version else ""
    text = f"apt has no {origin.packages[0]}{version} in this machine's sources"
    if origin.distribution == "Debian":
        text += " and in no suite of its Debian mirror"
    if others:
        return f"{text}; there is {', '.join(dict.fromkeys(others))}, which is another kernel"
    return text + (f" ({problems[0]})" if problems else "")
