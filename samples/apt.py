"""Debian packages by name, from the mirrors of this machine's own apt sources, for any user.

Suites that the machine does not list itself (an older or newer kernel) are asked of the same mirror.
Everything apt keeps goes to a folder of ours, so neither root nor a fresh `apt-get update` is needed.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCES = Path("/etc/apt")
UPDATE_SECONDS = 1800
LISTS_LAST_SECONDS = 12 * 3600
"""Package lists are fetched anew after so long; older ones name files that mirrors no longer have."""
_WITHOUT_SECURITY = ("sid", "unstable", "experimental")


class AptError(Exception):
    """A package cannot be had; the one-line message says which and why."""


@dataclass(frozen=True)
class Source:
    """One archive of a machine's apt sources. `options` as in sources.list(5)
    ("signed-by=/usr/share/...")."""

    uri: str
    suite: str
    options: tuple[str, ...] = ()

    def line(self, suite: str) -> str:
        """The same archive's main component of another suite, as a line of a sources.list."""
        options = f"[{' '.join(('arch=amd64', *self.options))}] "
        return f"deb {options}{self.uri} {suite} main"


def cache_folder() -> Path:
    """Where downloads and images are kept: `$HB_SAMPLES`, by default below the user's cache folder."""
    if chosen := os.environ.get("HB_SAMPLES"):
        return Path(chosen).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "hybridbridge" / "samples"


def parse_list(text: str) -> Iterator[Source]:
    """Archives with a main component in a one-line-style source file (sources.list(5)); other lines are
    passed over."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line)
        if match and "main" in match[4].split():
            kept = (
                option for option in (match[1] or "").split() if option.startswith(("signed-by=", "trusted="))
            )
            yield Source(match[2].rstrip("/"), match[3], tuple(kept))


def parse_deb822(text: str) -> Iterator[Source]:
    """Enabled archives with a main component in a deb822-style source file (sources.list(5))."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = {
            name.lower(): value
            for name, value in re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
        }
        if (
            "deb" not in fields.get("types", "").split()
            or fields.get("enabled", "yes").strip().lower() == "no"
        ):
            continue
        if "main" not in fields.get("components", "").split():
            continue
        options = []
        key = fields.get("signed-by", "").strip()
        if key.startswith("/"):  # a key may also stand in the file itself; apt's own keyring serves then
            options.append(f"signed-by={key}")
        if fields.get("trusted", "").strip().lower() == "yes":
            options.append("trusted=yes")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri.rstrip("/"), suite, tuple(options))


def machine_sources(folder: Path) -> list[Source]:
    """All archives of an /etc/apt folder, in apt's order."""
    found: list[Source] = []
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.suffix in (".list", ".sources") and path.is_file():
            text = path.read_text(errors="replace")
            found += parse_list(text) if path.suffix == ".list" else parse_deb822(text)
    return found


def debian_archives(sources: Iterable[Source]) -> tuple[Source, Source | None]:
    """Debian's main archive among `sources`, and its security archive if there is one. AptError without any.

    It has an `-updates` sibling, which other vendors' archives have not, or else a path that ends in
    "debian".
    """
    everything = list(sources)
    secure = [
        source for source in everything if source.suite.endswith("-security") or "/updates" in source.suite
    ]
    others = [source for source in everything if source not in secure]
    updated = {source.uri for source in others if source.suite.endswith("-updates")}
    by_path = re.compile(r"(^|[/._-])debian(\.list)?$")
    main = next((source for source in others if source.uri in updated), None) or next(
        (source for source in others if by_path.search(source.uri)), None
    )
    if main is None:
        raise AptError("no Debian mirror in /etc/apt/sources.list*; sample images need one")
    return main, secure[0] if secure else None


def _options(folder: Path) -> list[str]:
    settings: dict[str, object] = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        # what this machine has installed, in whatever version, is not asked for
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",  # the downloads are ours, in a folder that apt's own user may not enter
        "APT::Architecture": "amd64",
        "APT::Get::List-Cleanup": "true",
        "Acquire::Languages": "none",
        "Acquire::PDiffs": "false",
        "Acquire::Retries": "3",
        "Acquire::Check-Valid-Until": "false",  # older suites are no longer renewed
    }
    return [option for name, value in settings.items() for option in ("-o", f"{name}={value}")]


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, timeout=UPDATE_SECONDS, check=False
        )
    except FileNotFoundError:
        raise AptError(f"{command[0]} is not installed; sample images are made on Debian") from None
    except subprocess.TimeoutExpired:
        raise AptError(f"{command[0]} did not finish within {UPDATE_SECONDS} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise AptError(
            errors[0] if errors else f"{command[0]} failed: {' '.join(done.stderr.split())[-200:]}"
        )
    return done.stdout


@cache
def _state(suites: tuple[str, ...]) -> Path:
    """An apt state that knows `suites`, brought up to date once per run."""
    folder = cache_folder() / "apt" / "-".join(suites)
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    main, security = debian_archives(machine_sources(SOURCES))
    lines = []
    for suite in suites:
        lines.append(main.line(suite))
        if security and suite not in _WITHOUT_SECURITY:
            lines.append(security.line(f"{suite}-security"))
    wanted = "\n".join(lines) + "\n"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, listing = folder / "updated", folder / "sources.list"
        fresh = stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_LAST_SECONDS
        if not (fresh and listing.exists() and listing.read_text() == wanted):
            listing.write_text(wanted)
            _run(["apt-get", *_options(folder), "update", "-q"])
            stamp.touch()
    return folder


@cache
def own_suite() -> str:
    """The codename of this machine's Debian ("sid" where it has none)."""
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
    files = uris(listing)
    if unknown := [name for name in wanted if name not in files]:
        raise AptError(f"no such package in {', '.join(suites)}: {' '.join(unknown)}")
    missing = [name for name in wanted if not (folder / files[name]).exists()]
    if missing:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _run(["apt-get", *_options(state), "download", "-q", *missing], cwd=Path(scratch))
            for item in Path(scratch).iterdir():
                os.replace(item, folder / item.name)
    return [folder / files[name] for name in wanted]


def uris(listing: str) -> dict[str, str]:
    """Package name to file name, out of `apt-get download --print-uris` (which has an order of its own)."""
    return {file.split("_")[0]: file for file in re.findall(r"^'[^']*' (\S+)", listing, re.MULTILINE)}


def with_libraries(names: Iterable[str], suites: tuple[str, ...]) -> list[str]:
    """`names` and the library packages that they depend on.

    Only libraries: what else a package depends on (debconf, init scripts) is for installing it.
    """
    wanted = list(names)
    text = _run(["apt-cache", *_options(_state(suites)), "depends", "--recurse", "--important", *wanted])
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
