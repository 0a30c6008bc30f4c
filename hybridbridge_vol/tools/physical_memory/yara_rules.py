"""YARA rules, by the library yara-x, and what they find in a piece of memory."""

from __future__ import annotations

import hashlib
import io
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hybridbridge_vol.errors import OptionError

MAX_MATCHES = 256
"""Matches of one pattern in one unit that are shown."""
SECONDS = 120
"""For one unit of at most 32 MiB: rules that need longer are given up for it."""
GRACE = 30
"""Seconds beyond `SECONDS` after which a forked worker is ended."""
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
        self._scanner: tuple[int, Any] | None = None
        """The process that made it, and the scanner."""
        self._owner = os.getpid()
        try:
            compiler = yara_x.Compiler()
            compiler.add_include_dir(str(Path(path).resolve().parent))
            compiler.add_source(Path(path).read_text("utf-8", "surrogateescape"), origin=path)
            self._rules = compiler.build()
        except (yara_x.CompileError, UnicodeError, ValueError) as error:
            raise OptionError(f"{path}: {' '.join(str(error).split())[:300]}") from None
        except OSError as error:
            raise OptionError(f"{path}: {error.strerror}") from None

    def digest(self) -> str:
        """SHA-256 of the compiled rules, in hexadecimal: of included files, too, and another one for another
        version of the library."""
        compiled = io.BytesIO()
        self._rules.serialize_into(compiled)
        return hashlib.sha256(compiled.getvalue()).hexdigest()

    def search(self, data: bytes) -> list[Match] | str:
        """What matches, or why the search was given up."""
        try:
            with self._ended_if_late():
                results = self._scanner_here().scan(data)
        except self._yara.TimeoutError:
            self._scanner = None
            return f"the rules took more than {SECONDS} s"
        except self._yara.ScanError as error:
            self._scanner = None
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

    def _scanner_here(self) -> Any:
        """The scanner of this process. To make one takes as long as to search 100 KiB."""
        if self._scanner is None or self._scanner[0] != os.getpid():
            scanner = self._yara.Scanner(self._rules)
            scanner.set_timeout(SECONDS)
            scanner.max_matches_per_pattern(MAX_MATCHES)
            self._scanner = os.getpid(), scanner
        return self._scanner[1]

    @contextmanager
    def _ended_if_late(self) -> Iterator[None]:
        """A forked worker has no timeout if the process that forked it has searched before: a thread of the
        library counts the time, and threads are not forked. So SIGALRM ends the worker; what it leaves
        undone the other process does, which has that thread."""
        if os.getpid() == self._owner:
            yield
            return
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS + GRACE)
        try:
            yield
        finally:
            signal.alarm(0)
