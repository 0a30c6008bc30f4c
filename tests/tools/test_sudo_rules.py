"""Rules of sudo where memory lacks the file that includes them."""

from __future__ import annotations

from typing import Any

import pytest

from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.host import sudo_rules
from hybridbridge_vol.tools.host.sudo_rules import SudoRules
from hybridbridge_vol.tools.host.text_file import Folder, Line, TextFile

MAIN, FOLDER = "/etc/sudoers", "/etc/sudoers.d"
LACK = Unavailable(f"{MAIN}: not in memory")
INCLUDES = "@includedir /etc/sudoers.d"


def of(*lines: str, lack: Unavailable | None = None) -> TextFile:
    return TextFile("", None, tuple(Line(number, text) for number, text in enumerate(lines, 1)), lack)


@pytest.mark.parametrize(
    "main, expected",
    [
        (of(lack=LACK), ["alice"]),  # nothing of it: sudo was never run since the boot
        (of("root ALL=(ALL) ALL", lack=LACK), ["root", "alice"]),
        (of(INCLUDES, lack=LACK), ["alice"]),  # once
        (of("root ALL=(ALL) ALL"), ["root"]),  # the whole file, which includes nothing
        (of(INCLUDES), ["alice"]),
    ],
)
def test_the_usual_folder_is_read_where_the_file_that_includes_it_is_lacking(
    monkeypatch: pytest.MonkeyPatch, main: TextFile, expected: list[str]
) -> None:
    files = {MAIN: main, f"{FOLDER}/alice": of("alice ALL=(ALL) NOPASSWD: ALL")}
    monkeypatch.setattr(sudo_rules, "read_text", lambda _files, path: files.get(path))
    monkeypatch.setattr(sudo_rules, "list_folder", lambda _files, path: Folder(path, ("alice", "old~")))
    nothing: Any = None
    rules = SudoRules(nothing, "guest")
    assert [rule.who for rule in rules.read()] == expected
    assert [path for path, _line, _why in rules.lacks] == ([MAIN] if main.lack else [])
