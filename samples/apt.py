"""Debian packages by name, from the mirrors of this machine's own apt sources, for any user.

Suites that the machine does not list itself (an older or newer kernel) are asked of the same mirror.
Everything apt keeps goes to a folder of ours (`workflow.fetch.apt`), so neither root nor a fresh
`apt-get update` is needed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from hybridbridge_vol.errors import FetchError as AptError
from hybridbridge_vol.trust.store import user_cache
from hybridbridge_vol.workflow.fetch.apt import apt_cache, apt_download, apt_file_names, apt_state
from hybridbridge_vol.workflow.fetch.apt_sources import SOURCES, debian_archives, machine_sources

__all__ = ["AptError", "cache_folder", "candidates", "download", "own_suite", "with_libraries"]

_WITHOUT_SECURITY = ("sid", "unstable", "experimental")


def cache_folder() -> Path:
    """Where downloads and images are kept: `$HB_SAMPLES`, by default below the user's cache folder."""
    if chosen := os.environ.get("HB_SAMPLES"):
        return Path(chosen).absolute()
    return user_cache() / "samples"


@cache
def _state(suites: tuple[str, ...]) -> Path:
    """An apt state that knows `suites`, brought up to date once per run."""
    main, security = debian_archives(machine_sources(SOURCES))
    lines = []
    for suite in suites:
        lines.append(main.line(suite))
        if security and suite not in _WITHOUT_SECURITY:
            lines.append(security.line(f"{suite}-security"))
    return apt_state(cache_folder() / "apt" / "-".join(suites), lines)


@cache
def own_suite() -> str:
    """The codename of this machine's Debian ("sid" where it has none)."""
    match = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    return match[1] if match else "sid"


def candidates(pattern: str, suites: tuple[str, ...]) -> list[str]:
    """Names of the packages in `suites` that match a regular expression."""
    names = apt_cache(_state(suites), "pkgnames").split()
    return [name for name in names if re.fullmatch(pattern, name)]


def download(names: Iterable[str], suites: tuple[str, ...]) -> list[Path]:
    """The `.deb` files of packages, from the cache or the mirror. AptError if one cannot be had."""
    wanted = list(names)
    state = _state(suites)
    folder = cache_folder() / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    files = apt_file_names(state, wanted)
    if unknown := [name for name in wanted if name not in files]:
        raise AptError(f"no such package in {', '.join(suites)}: {' '.join(unknown)}")
    missing = [name for name in wanted if not (folder / files[name]).exists()]
    if missing:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            apt_download(state, missing, Path(scratch))
            for item in Path(scratch).iterdir():
                os.replace(item, folder / item.name)
    return [folder / files[name] for name in wanted]


def with_libraries(names: Iterable[str], suites: tuple[str, ...]) -> list[str]:
    """`names` and the library packages that they depend on.

    Only libraries: what else a package depends on (debconf, init scripts) is for installing it.
    """
    wanted = list(names)
    text = apt_cache(_state(suites), "depends", "--recurse", "--important", *wanted)
    return closure(wanted, parse_depends(text), lambda name: name.startswith(("lib", "zlib")))


def parse_depends(text: str) -> dict[str, list[str]]:
    """What each package depends on, out of `apt-cache depends`; of alternatives the last, no virtual
    packages."""
    depends: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line[:1].strip():
            current = depends.setdefault(line.strip(), [])
        elif match := re.match(
            r"\s+(?:Pre)?Depends: ([^<\s]+)$", line
        ):  # "|Depends" is one of several choices
            current.append(match[1])
    return depends


def closure(names: Iterable[str], depends: dict[str, list[str]], follow: Callable[[str], bool]) -> list[str]:
    """`names` and what they lead to through `depends` by names that `follow` admits, each once."""
    found = list(dict.fromkeys(names))
    for name in found:
        found += [item for item in dict.fromkeys(depends.get(name, ())) if follow(item) and item not in found]
    return found
