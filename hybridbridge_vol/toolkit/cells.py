"""The kinds of cells, and the form that a cell of each kind has in every place where answers go.

| kind | text | JSON and CSV | Python | table file |
|---|---|---|---|---|
| int | `12` | number | int | int64 |
| float | `1.5`, one decimal | number with one decimal | float | double |
| percent | `1.50`, two decimals | number with two decimals | float | double |
| hex | `0xff` | `"0xff"` | int | uint64 |
| str | printable | the characters | str | string |
| time | `2024-05-01 12:34:56Z` | ISO 8601, milliseconds | datetime, UTC | milliseconds since the epoch |
| duration | `1-02:03:04` | seconds | timedelta | double, seconds |

`volatility_plugin.value_of` makes the form for Volatility.

Bytes of the guest that are not UTF-8 are surrogate escapes inside of a str. JSON keeps them; in text, in
Python and in table files they are shown as `\\xff`.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from hybridbridge_vol.toolkit.printable import printable

if TYPE_CHECKING:  # 5 ms of every start, for what only Python's callers are given
    import datetime

Kind = Literal["int", "float", "percent", "hex", "str", "time", "duration"]
"""time: seconds since the epoch; duration: seconds. A str is what the guest has, control characters
included."""


class Unavailable(NamedTuple):
    """A cell that could not be read, and why: one short phrase that names the file of the guest."""

    reason: str


Value = int | float | str | None
"""None: there is nothing to show (the link target of a plain file), as opposed to `Unavailable`."""
Cell = Value | Unavailable
PythonValue: TypeAlias = "int | float | str | datetime.datetime | datetime.timedelta | None"

_LONGEST_DAYS = 100_000_000
"""Below what pandas counts in 64 bits of microseconds."""
_INT64, _UINT64 = range(-(1 << 63), 1 << 63), range(1 << 64)
_YEAR_10000 = 253402300800
_MILLION = 1_000_000
_SURROGATE = re.compile("[\ud800-\udfff]")


# --- one class per kind -----------------------------------------------------------------------------------


class _Whole:
    """int."""

    range = _INT64

    def text(self, value: float) -> str:
        return str(value)

    def json(self, value: float) -> int | float | str:
        return round(value, 3) if isinstance(value, float) else value

    def python(self, value: float) -> PythonValue | Unavailable:
        return int(value)

    def stored(self, value: float) -> int | float | str | Unavailable:
        number = int(value)
        return number if number in self.range else Unavailable(f"out of range: {number:#x}")


class _Address(_Whole):
    """hex."""

    range = _UINT64

    def text(self, value: float) -> str:
        return f"{int(value):#x}"

    def json(self, value: float) -> int | float | str:
        return self.text(value)


class _Decimal(_Whole):
    """float and percent: so many digits behind the point are shown."""

    def __init__(self, digits: int) -> None:
        self.digits = digits

    def text(self, value: float) -> str:
        return f"{value:.{self.digits}f}"

    def json(self, value: float) -> int | float | str:
        return round(value, self.digits) if isinstance(value, float) else value

    def python(self, value: float) -> PythonValue | Unavailable:
        return float(value)

    def stored(self, value: float) -> int | float | str | Unavailable:
        return float(value) if math.isfinite(value) else Unavailable(f"not a number: {value}")


class _Text(_Whole):
    """str, in a cell that holds a number."""

    def stored(self, value: float) -> int | float | str | Unavailable:
        return str(value)


class _Moment(_Decimal):
    """time."""

    def __init__(self) -> None:
        super().__init__(3)

    def text(self, value: float) -> str:
        return utc(value)

    def json(self, value: float) -> int | float | str:
        return utc(value, self.digits).replace(" ", "T")

    def python(self, value: float) -> PythonValue | Unavailable:
        import datetime

        delta = _timedelta(value)
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        try:
            return delta if isinstance(delta, Unavailable) else epoch + delta
        except OverflowError:
            return _no_time(value)

    def stored(self, value: float) -> int | float | str | Unavailable:
        if not math.isfinite(value):
            return Unavailable(f"not a number: {value}")
        return (
            _microseconds(value) // 1000
            if 0 <= value < _YEAR_10000
            else Unavailable(f"not a time: {value:g}")
        )


class _Duration(_Decimal):
    """duration."""

    def __init__(self) -> None:
        super().__init__(3)

    def text(self, value: float) -> str:
        return duration(value)

    def python(self, value: float) -> PythonValue | Unavailable:
        return _timedelta(value)


_FORMS: dict[Kind, _Whole] = {
    "int": _Whole(),
    "float": _Decimal(1),
    "percent": _Decimal(2),
    "hex": _Address(),
    "str": _Text(),
    "time": _Moment(),
    "duration": _Duration(),
}


# --- any cell ---------------------------------------------------------------------------------------------


def as_text(cell: Cell, kind: Kind) -> str:
    """A cell in one printable line; `-` where there is nothing or it could not be read."""
    if cell is None or isinstance(cell, Unavailable):
        return "-"
    return printable(cell) if isinstance(cell, str) else _FORMS[kind].text(cell)


def as_json(cell: Cell, kind: Kind) -> int | float | str | None:
    """A cell as a value of JSON; None where there is nothing or it could not be read."""
    if cell is None or isinstance(cell, Unavailable):
        return None
    return cell if isinstance(cell, str) else _FORMS[kind].json(cell)


def as_python(cell: Cell, kind: Kind) -> PythonValue | Unavailable:
    """A cell as a value of Python; a time beyond the years of Python and pandas is Unavailable."""
    if cell is None or isinstance(cell, Unavailable):
        return cell
    return without_surrogates(cell) if isinstance(cell, str) else _FORMS[kind].python(cell)


def as_stored(cell: Cell, kind: Kind) -> int | float | str | None | Unavailable:
    """A cell as table files keep it: a time in whole milliseconds; Unavailable where it does not fit the
    column's type."""
    if cell is None or isinstance(cell, Unavailable):
        return cell
    if not isinstance(cell, str):
        return _FORMS[kind].stored(cell)
    text = without_surrogates(cell)
    return text if kind == "str" else Unavailable(f"not a number: {text[:40]!r}")


# --- parts ------------------------------------------------------------------------------------------------


def utc(seconds: float, digits: int = 0) -> str:
    """Seconds since the epoch as `2024-05-01 12:34:56Z`, cut (not rounded) after `digits` decimals, 6 at
    most."""
    try:
        whole, part = divmod(_microseconds(seconds), _MILLION)
        then = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(whole))
    except (OverflowError, ValueError, OSError):
        return f"@{seconds:.0f}"
    return then + (f".{part // 10 ** (6 - digits):0{digits}d}" if digits else "") + "Z"


def _microseconds(seconds: float) -> int:
    """In whole ones: a float of today's seconds has no more, and 0.008 may be a little less than that."""
    return round(seconds * _MILLION)


def iso(milliseconds: int) -> str:
    """Milliseconds since the epoch as `2026-11-23T05:30:44.123Z`."""
    return f"{utc(milliseconds // 1000)[:-1].replace(' ', 'T')}.{milliseconds % 1000:03d}Z"


def duration(seconds: float) -> str:
    """Seconds as `[days-]hours:minutes:seconds`, cut, as `ps` writes TIME."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hour:02d}:{minute:02d}:{second:02d}"


def without_surrogates(text: str) -> str:
    """The text with bytes that are not UTF-8 (lone surrogates, which neither UTF-8 nor Arrow can hold) as
    `\\xff`."""
    return text if text.isascii() else _SURROGATE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _timedelta(seconds: float) -> datetime.timedelta | Unavailable:
    import datetime

    try:
        delta = datetime.timedelta(microseconds=_microseconds(seconds))
    except (OverflowError, ValueError):
        return _no_time(seconds)
    return delta if abs(delta) <= datetime.timedelta(days=_LONGEST_DAYS) else _no_time(seconds)


def _no_time(seconds: float) -> Unavailable:
    return Unavailable(f"{seconds:g} seconds are no time that Python and pandas have")
