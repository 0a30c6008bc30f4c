"""apt for any user: its lists, state and downloads lie in a folder of ours, so neither root nor a fresh
`apt-get update` of the machine's own lists is needed. apt checks the signatures of what it fetches.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterable
from pathlib import Path

from hybridbridge_vol.errors import FetchError
from hybridbridge_vol.workflow.fetch.run_client import run_client

LISTS_LAST_SECONDS = 12 * 3600
"""Package lists are fetched anew after so long; older ones name files that mirrors no longer have."""


def apt_options(folder: Path) -> list[str]:
    """The options that make apt keep to `folder`, whose `sources.list` says what it may ask."""
    settings: dict[str, object] = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        # what this machine has installed, in whatever version, is not asked for
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        # what apt computes from its lists, in seconds: a machine made of a container image may not keep it
        "Dir::Cache::pkgcache": "pkgcache.bin",
        "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
        "APT::Sandbox::User": "root",  # the downloads are ours, in a folder that apt's own user may not enter
        "APT::Architecture": "amd64",
        "APT::Get::List-Cleanup": "true",
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::Languages": "none",
        "Acquire::PDiffs": "false",
        "Acquire::Retries": "3",
        "Acquire::Check-Valid-Until": "false",  # older suites are no longer renewed
    }
    return [option for name, value in settings.items() for option in ("-o", f"{name}={value}")]


def apt_state(folder: Path, lines: Iterable[str]) -> Path:
    """`folder`, with an apt state that knows the sources `lines`, brought up to date if it is not fresh.
    FetchError."""
    wanted = "\n".join(lines) + "\n"
    try:
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stamp, listing = folder / "updated", folder / "sources.list"
            fresh = stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_LAST_SECONDS
            if not (fresh and listing.exists() and listing.read_text() == wanted):
                stamp.unlink(missing_ok=True)
                listing.write_text(wanted)
                run_client(["apt-get", *apt_options(folder), "update", "-q"])
                stamp.touch()
    except OSError as error:
        raise FetchError(f"{folder}: apt's lists cannot be kept there ({error.strerror})") from None
    return folder


def apt_cache(state: Path, *arguments: str) -> str:
    """What `apt-cache` says about the packages that a state knows."""
    return run_client(["apt-cache", *apt_options(state), *arguments])


def apt_versions(state: Path, names: Iterable[str]) -> list[tuple[str, str]]:
    """`(package, version)` of each version of the packages that a state knows, in the order of `names`."""
    wanted = list(names)
    found = []
    for line in apt_cache(state, "madison", *wanted).splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) == 3 and parts[0] in wanted:
            found.append((parts[0], parts[1]))
    return sorted(dict.fromkeys(found), key=lambda item: wanted.index(item[0]))


def apt_download(state: Path, packages: Iterable[str], folder: Path) -> None:
    """Fetch `.deb` files into `folder`; a package is named `NAME` or `NAME=VERSION`. FetchError."""
    run_client(["apt-get", *apt_options(state), "download", "-q", *packages], cwd=folder)


def apt_file_names(state: Path, packages: Iterable[str]) -> dict[str, str]:
    """Package name to file name, as `apt_download` would write it; without what it does not know."""
    return uris(run_client(["apt-get", *apt_options(state), "download", "--print-uris", "-q", *packages]))


def uris(listing: str) -> dict[str, str]:
    """Package name to file name, out of `apt-get download --print-uris` (which has an order of its own)."""
    return {file.split("_")[0]: file for file in re.findall(r"^'[^']*' (\S+)", listing, re.MULTILINE)}
