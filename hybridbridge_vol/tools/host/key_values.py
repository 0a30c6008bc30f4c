"""Files of `KEY=value` lines, as systemd keeps its state in (src/basic/env-file.c)."""

from __future__ import annotations

from collections.abc import Iterable

from hybridbridge_vol.tools.host.text_file import Line


def parse_key_values(lines: Iterable[Line]) -> dict[str, str]:
    """The values by their keys; the last one counts. Comments and lines without `=` are passed over."""
    found = {}
    for line in lines:
        key, equals, value = line.text.strip().partition("=")
        if equals and not key.startswith(("#", ";")):
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            found[key] = value[1:-1] if quoted else value
    return found
