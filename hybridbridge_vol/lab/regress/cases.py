"""Cases of a regression test: which image, which tools, which fields may move. A TOML file:

store = "../trust"                     # optional: where the kernels are trusted, relative to this file

[moving]                               # optional: columns by tool whose values are not compared, in all cases
ps = ["TIME", "%CPU"]

[[case]]
name = "web-01"                        # names the folder of the recorded answers: golden/web-01
image = "images/web-01.raw"            # relative to this file
run = ["ps --tree", "netstat -tulpan", "lsmod"]

[[case]] name = "made" make = ["python3", "make-image.py"]    # instead of `image`: the last line it prints is
the image, or a folder with dump.raw folder = ".."                          # optional: where it runs,
relative to this file run = ["ps"] moving = {ps = ["PID", "PPID", "START"]} without = {ps = {CMD =
"^\\\\[kworker"}}   # rows left out: a regular expression for a column's text unordered = ["ps"]
# tools whose rows are compared in no order
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hybridbridge_vol import tools
from hybridbridge_vol.errors import CasesError, HybridBridgeError
from hybridbridge_vol.toolkit.tool import Tool

MAKE_SECONDS = 1800
"""How long making an image may take."""
GOLDEN = "golden"
PYTHON = "{python}"
"""Stands in `make` for the interpreter that runs this program."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,80}")
_KEYS = {
    "name": str,
    "image": str,
    "make": list,
    "folder": str,
    "run": list,
    "moving": dict,
    "without": dict,
    "unordered": list,
}


class Run(NamedTuple):
    """One tool with its options; `text` as it was typed."""

    text: str
    tool: Tool
    options: Mapping[str, Any]
    ns_of: int | None

    @property
    def file(self) -> str:
        """The name of the file of its recorded answer."""
        return re.sub(r"[^A-Za-z0-9.=-]+", "_", self.text).strip("_") + ".json"


Parse = Callable[[str], Run]
"""Understands a run as it was typed. OptionError says what is wrong with it."""


@dataclass(frozen=True)
class Case:
    """One image and what is asked of it. `moving`: columns by tool; `without`: patterns by tool and
    column."""

    name: str
    file: Path
    image: Path | None
    make: tuple[str, ...]
    folder: Path
    runs: tuple[Run, ...]
    store: Path | None = None
    moving: Mapping[str, frozenset[str]] = field(default_factory=dict)
    without: Mapping[str, Mapping[str, re.Pattern[str]]] = field(default_factory=dict)
    unordered: frozenset[str] = frozenset()

    def golden(self, run: Run) -> Path:
        """Where the recorded answer of a run lies."""
        return self.file.parent / GOLDEN / self.name / run.file

    def found_image(self) -> Path:
        """The image, made if need be. CasesError if there is none."""
        if self.image is None:
            return self._made()
        if not self.image.exists():
            raise CasesError(f"{self.file}: case {self.name!r}: there is no image {self.image}")
        return self.image

    def _made(self) -> Path:
        words = [sys.executable if word == PYTHON else word for word in self.make]
        try:
            done = subprocess.run(
                words,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                text=True,
                timeout=MAKE_SECONDS,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise CasesError(
                f"{self.file}: case {self.name!r}: the image cannot be made: {' '.join(str(error).split())}"
            ) from None
        path = self.folder / (done.stdout.strip().splitlines() or ["nothing printed"])[-1]
        path = path / "dump.raw" if path.is_dir() else path
        if not path.exists():
            raise CasesError(
                f"{self.file}: case {self.name!r}: what makes the image printed no path of one ({path})"
            )
        return path


def read_cases(path: Path, parse: Parse, only: tuple[str, ...] = ()) -> list[Case]:
    """The cases of a file, or those named. CasesError names the file, the case and what is wrong."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CasesError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise CasesError(f"{path}: {error.strerror}") from None
    cases = content.pop("case", None)
    general = _moving(path, content.pop("moving", {}))
    store = content.pop("store", None)
    if content:
        raise CasesError(f"{path}: unknown key {next(iter(content))!r}; there are store, moving and [[case]]")
    if not isinstance(cases, list) or not cases or not isinstance(store, str | None):
        raise CasesError(
            f"{path}: no [[case]] in it" if isinstance(store, str | None) else f"{path}: store is no path"
        )
    root = path.parent / store if store is not None else None
    found = [_case(path, number, item, general, root, parse) for number, item in enumerate(cases, 1)]
    names = [case.name for case in found]
    for name in names:
        if names.count(name) > 1:
            raise CasesError(f"{path}: two cases are named {name!r}")
    for name in only:
        if name not in names:
            raise CasesError(f"{path}: no case is named {name!r}; there are {', '.join(names)}")
    return [case for case in found if not only or case.name in only]


def _case(
    path: Path,
    number: int,
    fields: Any,
    general: Mapping[str, frozenset[str]],
    store: Path | None,
    parse: Parse,
) -> Case:
    place = f"{path}: case {number}"
    if not isinstance(fields, dict) or not _NAME.fullmatch(str(fields.get("name", ""))):
        raise CasesError(f"{place}: needs a name of letters, digits, dots, dashes and spaces")
    place = f"{path}: case {fields['name']!r}"
    for key, value in fields.items():
        if key not in _KEYS:
            raise CasesError(f"{place}: unknown key {key!r}; there are {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]):
            raise CasesError(f"{place}: {key} is of the wrong type")
    if ("image" in fields) == ("make" in fields):
        raise CasesError(f"{place}: needs either 'image' or 'make'")
    _are_tools(f"{place}: unordered", _words(place, "unordered", fields.get("unordered", [])))
    texts = _words(place, "run", fields.get("run", []))
    if not texts:
        raise CasesError(f"{place}: 'run' names no tool")
    runs = []
    for text in texts:
        try:
            runs.append(parse(text))
        except HybridBridgeError as error:
            raise CasesError(f"{place}: {text!r}: {error}") from None
    if len({run.file for run in runs}) < len(runs):
        raise CasesError(f"{place}: 'run' has the same twice")
    moving = dict(general)
    for tool, columns in _moving(path, fields.get("moving", {})).items():
        moving[tool] = moving.get(tool, frozenset()) | columns
    return Case(
        fields["name"], path, path.parent / fields["image"] if "image" in fields else None,
        tuple(_words(place, "make", fields.get("make", []))), path.parent / fields.get("folder", "."), tuple(runs), store, moving,
        _without(place, fields.get("without", {})), frozenset(_words(place, "unordered", fields.get("unordered", []))),
    )  # fmt: skip


def _words(place: str, key: str, value: list[Any]) -> list[str]:
    if not all(isinstance(word, str) for word in value):
        raise CasesError(f"{place}: {key} is a list of words")
    return value


def _moving(path: Path, value: Any) -> dict[str, frozenset[str]]:
    if not isinstance(value, dict) or not all(isinstance(columns, list) for columns in value.values()):
        raise CasesError(f'{path}: moving is columns by tool: {{ps = ["TIME"]}}')
    _are_tools(f"{path}: moving", value)
    return {tool: frozenset(map(str, columns)) for tool, columns in value.items()}


def _are_tools(place: str, names: Iterable[str]) -> None:
    """What is said of a tool that there is not would be without effect. CasesError."""
    for name in names:
        if name not in tools.NAMES:
            raise CasesError(f"{place}: no tool is named {name!r}; there are {', '.join(tools.NAMES)}")


def _without(place: str, value: dict[str, Any]) -> dict[str, dict[str, re.Pattern[str]]]:
    _are_tools(f"{place}: without", value)
    try:
        return {
            tool: {column: re.compile(pattern) for column, pattern in columns.items()}
            for tool, columns in value.items()
        }
    except (re.error, AttributeError, TypeError, RecursionError) as error:
        raise CasesError(f"{place}: without is patterns by tool and column: {error}") from None
