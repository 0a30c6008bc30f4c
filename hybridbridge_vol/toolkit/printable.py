"""Text of the guest for terminals: no name can move the cursor or begin a line of its own."""

from __future__ import annotations

from unicodedata import combining, east_asian_width


def printable(text: str) -> str:
    """The text with every character that is not printable (control characters, line ends, bidirectional
    marks, lone surrogates) replaced by an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def safe(data: bytes) -> str:
    """Bytes for a terminal: text with every unprintable character but newline and tab escaped."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    # surrogateescape keeps a byte that is not UTF-8 as one of these
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def columns_of(text: str) -> int:
    """How many columns of a terminal the (printable) text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int) -> str:
    """The beginning of the text that fits `width` columns."""
    if text.isascii():
        return text[:width]
    end = len(text)
    while columns_of(text[:end]) > width:
        end -= 1
    return text[:end]
