"""YARA rules, by the library yara-x, and what they find in a piece of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from hybridbridge_vol.errors import OptionError

MAX_MATCHES = 256
"""Matches of one pattern in one unit that are shown."""
SECONDS = 120
"""For one unit of at most 32 MiB: rules that need longer are given up for it."""
_KEPT = 64
"""Bytes of a match that are kept."""


class Match(NamedTuple):
    """A place: the rule's name, the pattern's, both empty where a rule needs none; offset and size in the
    piece; its first bytes."""

    rule: str
    pattern: str
    offset: int
    size: int
    content: bytes


class YaraRules:
    """Compiled rules."""

    def __init__(self, path: str) -> None:
        """OptionError if yara-x is not installed, or the rules cannot be read or compiled."""
        try:
            import yara_x
        except ImportError:
            raise OptionError(
                "yara needs the library yara-x: pip install 'hybridbridge-vol[yara]' (or pip install yara-x)"
            ) from None
        self._yara: Any = yara_x
        try:
            compiler = yara_x.Compiler()
            compiler.add_include_dir(str(Path(path).resolve().parent))
            compiler.add_source(Path(path).read_text("utf-8", "surrogateescape"), origin=path)
            self._rules = compiler.build()
        except (yara_x.CompileError, UnicodeError, ValueError) as error:
            raise OptionError(f"{path}: {' '.join(str(error).split())[:300]}") from None
        except OSError as error:
            raise OptionError(f"{path}: {error.strerror}") from None

    def search(self, data: bytes) -> list[Match] | str:
        """What matches, or why the search was given up."""
        scanner = self._yara.Scanner(self._rules)
        scanner.set_timeout(SECONDS)
        scanner.max_matches_per_pattern(MAX_MATCHES)
        try:
            results = scanner.scan(data)
        except self._yara.TimeoutError:
            return f"the rules took more than {SECONDS} s"
        except self._yara.ScanError as error:
            return " ".join(str(error).split())
        found = []
        for rule in results.matching_rules:
            places = [
                Match(rule.identifier, pattern.identifier, match.offset, match.length,
                      data[match.offset : match.offset + min(match.length, _KEPT)])
                for pattern in rule.patterns
                for match in pattern.matches
            ]  # fmt: skip
            found += places or [Match(rule.identifier, "", 0, 0, b"")]
        return found
