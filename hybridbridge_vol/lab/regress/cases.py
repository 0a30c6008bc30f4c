"""The cases of a regression test: which images, which tools, which columns may change. A TOML file:

store = "../trust"                     # optional: the trust store, relative to this file

[moving]                               # optional: columns whose values are not compared, by tool
ps = ["TIME", "%CPU"]

[[case]]
name = "web-01"                        # names the directory of the recorded answers: golden/web-01
image = "images/web-01.raw"            # relative to this file
run = ["ps --tree", "netstat -tulpan", "lsmod"]

[[case]]
name = "made"
make = ["python3", "make-image.py"]    # instead of `image`: the last line that it prints is the path of
                                       # the image, or of a directory with dump.raw
folder = ".."                          # optional: where it runs, relative to this file
run = ["ps"]
moving = {ps = ["PID", "START"]}       # optional: added to those of the file
without = {ps = {CMD = "^.kworker"}}   # optional: rows to leave out, by a regular expression for a column
unordered = ["ps"]                     # optional: tools whose rows are compared in any order
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from hybridbridge_vol import tools
from hybridbridge_vol.errors import CasesError, HybridBridgeError
from hybridbridge_vol.toolkit.tool import Options, Tool

MAKE_SECONDS = 1800
"""How long making an image may take."""
GOLDEN = "golden"
PYTHON = "{python}"
"""Stands in `make` for the interpreter that runs this program."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,80}")

T = TypeVar("T", bound=msgspec.Struct)


class Run(NamedTuple):
    """One tool with its options; `text` as it was typed."""

    text: str
    tool: Tool
    options: Options
    ns_of: int | None
    root_of: int | None = None
    kernel_at: int | None = None

    @property
    def file(self) -> str:
        """The file name of its recorded answer."""
        return re.sub(r"[^A-Za-z0-9.=-]+", "_", self.text).strip("_") + ".json"


Parse = Callable[[str], Run]
"""Parses a run as it was typed. OptionError says what is wrong with it."""


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

    @property
    def place(self) -> str:
        """The beginning of every message about this case."""
        return f"{self.file}: case {self.name!r}"

    def golden(self, run: Run) -> Path:
        """The file of a run's recorded answer."""
        return self.file.parent / GOLDEN / self.name / run.file

    def found_image(self) -> Path:
        """The image, made if need be. CasesError if there is none."""
        if self.image is None:
            return self._made()
        if not self.image.exists():
            raise CasesError(f"{self.place}: there is no image {self.image}")
        return self.image

    def _made(self) -> Path:
        words = [sys.executable if word == PYTHON else word for word in self.make]
        try:
            done = subprocess.run(
                words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                timeout=MAKE_SECONDS,
                check=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise CasesError(
                f"{self.place}: the image cannot be made: {' '.join(str(error).split())}"
            ) from None
        path = self.folder / (done.stdout.strip().splitlines() or ["nothing printed"])[-1]
        path = path / "dump.raw" if path.is_dir() else path
        if not path.exists():
            raise CasesError(f"{self.place}: 'make' did not print the path of an image ({path})")
        return path


class _CaseTable(msgspec.Struct, forbid_unknown_fields=True):
    """A `[[case]]` as it is written."""

    name: str
    run: list[str] = []
    image: str | None = None
    make: list[str] | None = None
    folder: str = "."
    moving: dict[str, list[str]] = {}
    without: dict[str, dict[str, str]] = {}
    unordered: list[str] = []


class _CasesFile(msgspec.Struct, forbid_unknown_fields=True):
    """The file as it is written; its cases are read one by one, so that messages can name them."""

    store: str | None = None
    moving: dict[str, list[str]] = {}
    case: list[dict[str, object]] = []


_EXPECTED = {
    "store": "a path",
    "case": "tables, each begun with [[case]]",
    "name": "a text",
    "image": "a path",
    "folder": "a path",
    "make": 'a list of words: ["python3", "make-image.py"]',
    "run": 'a list of texts: ["ps --tree"]',
    "unordered": 'a list of tools: ["ps"]',
    "moving": 'columns by tool: {ps = ["TIME"]}',
    "without": 'patterns by tool and column: {ps = {CMD = "kworker"}}',
}


def read_cases(path: Path, parse: Parse, only: tuple[str, ...] = ()) -> list[Case]:
    """The cases of a file, or those named `only`. CasesError names the file, the case and what is wrong."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CasesError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise CasesError(f"{path}: {error.strerror}") from None
    file = _converted(str(path), content, _CasesFile)
    if not file.case:
        raise CasesError(f"{path}: no [[case]] in it")
    _need_tools(f"{path}: moving", file.moving)
    found = [_case(path, file, number, fields, parse) for number, fields in enumerate(file.case, 1)]
    names = [case.name for case in found]
    for name in names:
        if names.count(name) > 1:
            raise CasesError(f"{path}: two cases are named {name!r}")
    for name in only:
        if name not in names:
            raise CasesError(f"{path}: no case is named {name!r}; there are {', '.join(names)}")
    return [case for case in found if not only or case.name in only]


def _case(path: Path, file: _CasesFile, number: int, fields: dict[str, object], parse: Parse) -> Case:
    name = fields.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CasesError(f"{path}: case {number}: needs a name of letters, digits, dots, dashes and spaces")
    place = f"{path}: case {name!r}"
    table = _converted(place, fields, _CaseTable)
    if (table.image is None) == (table.make is None):
        raise CasesError(f"{place}: needs either 'image' or 'make'")
    for key in ("moving", "without", "unordered"):
        _need_tools(f"{place}: {key}", getattr(table, key))
    moving = {
        tool: frozenset([*file.moving.get(tool, ()), *table.moving.get(tool, ())])
        for tool in (file.moving | table.moving)
    }
    return Case(
        name=name,
        file=path,
        image=None if table.image is None else path.parent / table.image,
        make=tuple(table.make or ()),
        folder=path.parent / table.folder,
        runs=_runs(place, table.run, parse),
        store=None if file.store is None else path.parent / file.store,
        moving=moving,
        without=_patterns(place, table.without),
        unordered=frozenset(table.unordered),
    )


def _converted(place: str, content: dict[str, object], kind: type[T]) -> T:
    """Content of the file as a struct. CasesError says which key is wrong and what it must be."""
    for key in content:
        if key not in kind.__struct_fields__:
            known = ", ".join(kind.__struct_fields__)
            raise CasesError(f"{place}: unknown key {key!r}; there are {known}")
    try:
        return msgspec.convert(content, type=kind)
    except msgspec.ValidationError as error:
        problem, _, at = str(error).partition(" - at `$.")
        key = re.split(r"[.\[`]", at)[0]
        raise CasesError(f"{place}: {key} must be {_EXPECTED[key]} ({problem})") from None


def _runs(place: str, texts: list[str], parse: Parse) -> tuple[Run, ...]:
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
    return tuple(runs)


def _need_tools(place: str, names: Iterable[str]) -> None:
    """CasesError for a name that is not a tool's: what is said about it would have no effect."""
    for name in names:
        if name not in tools.NAMES:
            raise CasesError(f"{place}: no tool is named {name!r}; there are {', '.join(tools.NAMES)}")


def _patterns(place: str, texts: dict[str, dict[str, str]]) -> dict[str, dict[str, re.Pattern[str]]]:
    try:
        return {
            tool: {column: re.compile(pattern) for column, pattern in columns.items()}
            for tool, columns in texts.items()
        }
    except (re.error, OverflowError, RecursionError) as error:
        raise CasesError(f"{place}: without: not a regular expression: {error}") from None
