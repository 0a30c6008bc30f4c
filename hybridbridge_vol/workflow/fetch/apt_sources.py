"""The archives that a machine's own apt sources name (sources.list(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hybridbridge_vol.errors import FetchError

SOURCES = Path("/etc/apt")


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

    def signed(self) -> Source:
        """The same archive, whose signature is checked whatever the machine's sources say."""
        return replace(self, options=tuple(each for each in self.options if not each.startswith("trusted=")))


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
    """Debian's main archive among `sources`, and its security archive if there is one. FetchError without
    any.

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
        raise FetchError("no Debian mirror in /etc/apt/sources.list*")
    return main, secure[0] if secure else None
