"""Debian packages by name, from the mirrors of this machine's own apt sources, for any user.

Suites that the machine does not list itself (an older or newer kernel) are asked of the same mirror. Everything
apt keeps goes to a folder of ours, so neither root nor a fresh `apt-get update` is needed.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

SOURCES = Path("/etc/apt")
EXTRA_SUITES = ("bullseye", "bookworm", "trixie", "sid")
UPDATE_SECONDS = 300
LISTS_LAST_SECONDS = 12 * 3600
"""Package lists are fetched anew after so long; older ones name files that mirrors no longer have."""


class AptError(Exception):
    """A package cannot be had; the message says which and why."""


def cache_folder() -> Path:
    """Where downloads and images are kept: `$HB_SAMPLES`, by default below the user's cache folder."""
    if chosen := os.environ.get("HB_SAMPLES"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "hybridbridge" / "samples"


def parse_sources(text: str) -> Iterator[tuple[str, str]]:
    """`(URI, suite)` pairs of Debian archives in an apt source file, one-line or deb822 (sources.list(5))."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+\S", line)
        if match:
            yield match[1], match[2]
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        if "deb" in fields.get("Types", "").split():
            for uri in fields.get("URIs", "").split():
                for suite in fields.get("Suites", "").split():
                    yield uri, suite


def debian_mirrors() -> tuple[str, str | None]:
    """The machine's Debian mirror, and its security archive if it lists one."""
    pairs: list[tuple[str, str]] = []
    for path in [SOURCES / "sources.list", *sorted((SOURCES / "sources.list.d").glob("*"))]:
        if path.suffix in (".list", ".sources") and path.is_file():
            pairs += parse_sources(path.read_text(errors="replace"))
    # images of Debian for containers list a mirror with a scheme that only the main archive speaks
    security = next((uri for uri, suite in pairs if "security" in suite), None)
    main = next(
        (uri for uri, suite in pairs if "security" not in suite and re.search(r"debian/?$", uri)), None
    )
    if main is None:
        raise AptError("no Debian mirror in /etc/apt/sources.list*; sample images need one")
    return main.rstrip("/"), security.rstrip("/") if security else None


def _options(folder: Path) -> list[str]:
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    return [option for name, value in settings.items() for option in ("-o", f"{name}={value}")]


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=UPDATE_SECONDS, check=False)
    except FileNotFoundError:
        raise AptError(f"{command[0]} is not installed; sample images are made on Debian") from None
    except subprocess.TimeoutExpired:
        raise AptError(f"{command[0]} did not finish within {UPDATE_SECONDS} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise AptError(errors[0] if errors else f"{command[0]} failed")
    return done.stdout


@cache
def _state(suites: tuple[str, ...]) -> Path:
    """An apt state that knows `suites`, brought up to date once per run."""
    folder = cache_folder() / "apt" / "-".join(suites)
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    main, security = debian_mirrors()
    lines = []
    for suite in suites:
        lines.append(f"deb {main} {suite} main")
        if security and suite not in ("sid", "unstable", "experimental"):
            lines.append(f"deb {security} {suite}-security main")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > LISTS_LAST_SECONDS:
            (folder / "sources.list").write_text("\n".join(lines) + "\n")
            _run(["apt-get", *_options(folder), "update", "-q"])
            stamp.touch()
    return folder


def own_suite() -> str:
    """The codename of this machine's Debian."""
    match = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    return match[1] if match else "sid"


def candidates(pattern: str, suites: tuple[str, ...]) -> list[str]:
    """Names of the packages in `suites` that match a regular expression."""
    names = _run(["apt-cache", *_options(_state(suites)), "pkgnames"]).split()
    return [name for name in names if re.fullmatch(pattern, name)]


def download(names: Iterable[str], suites: tuple[str, ...]) -> list[Path]:
    """The `.deb` files of packages, from the cache or the mirror. AptError if one cannot be had."""
    wanted = list(names)
    state = _state(suites)
    folder = cache_folder() / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    listing = _run(["apt-get", *_options(state), "download", "--print-uris", "-q", *wanted])
    # apt names them in an order of its own
    files = {file.split("_")[0]: file for file in re.findall(r"^'[^']*' (\S+)", listing, re.MULTILINE)}
    if unknown := [name for name in wanted if name not in files]:
        raise AptError(f"no such package in {', '.join(suites)}: {' '.join(unknown)}")
    missing = [name for name in wanted if not (folder / files[name]).exists()]
    if missing:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _run(["apt-get", *_options(state), "download", "-q", *missing], cwd=Path(scratch))
            for item in Path(scratch).iterdir():
                os.replace(item, folder / item.name)
    return [folder / files[name] for name in wanted]


def closure(names: Iterable[str], suites: tuple[str, ...], without: frozenset[str]) -> list[str]:
    """`names` and everything they depend on, but for `without` and what only that needs."""
    wanted = list(names)
    text = _run(["apt-cache", *_options(_state(suites)), "depends", "--recurse", "--important", *wanted])
    depends: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line[:1].strip():
            current = depends.setdefault(line.strip(), [])
        elif match := re.match(r"\s+(?:Pre)?Depends: ([^<\s]+)$", line):  # "|Depends" is one of several choices
            current.append(match[1])
    seen = dict.fromkeys(wanted)
    for name in wanted:
        for dependency in depends.get(name, ()):
            if dependency not in seen and dependency not in without:
                seen[dependency] = None
                wanted.append(dependency)
    return list(seen)
