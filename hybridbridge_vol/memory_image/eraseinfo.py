"""What makedumpfile overwrote on request (--config, --eppic): it lists that in the note ERASEINFO of an ELF
core, or behind the sub-header of a kdump (makedumpfile 1.7, erase_info.c: `save_filter_info`)."""

from __future__ import annotations

ERASEINFO = b"ERASEINFO"
"""The note's name."""
MAX_SIZE = 1 << 20
"""Bytes of the list that are read."""
_MOST_NAMED = 8
_LONGEST = 80
"""Lines, and characters of each, that a message has."""


def erased_in_words(content: bytes) -> str | None:
    """One line for the list, a line of which says what was erased (`erase init_task.comm 16`); None if it is
    empty. What it names is overwritten in the file, and cannot be told from what the machine had there."""
    lines = [line.strip() for line in content[:MAX_SIZE].split(b"\0", 1)[0].split(b"\n") if line.strip()]
    if not lines:
        return None
    named = ["".join(map(_shown, line[:_LONGEST])) for line in lines[:_MOST_NAMED]]
    more = [f"{len(lines) - _MOST_NAMED:,} more"] if len(lines) > _MOST_NAMED else []
    return f"makedumpfile was told to overwrite memory, and did: {'; '.join([*named, *more])}"


def _shown(byte: int) -> str:
    return chr(byte) if chr(byte).isascii() and chr(byte).isprintable() else f"\\x{byte:02x}"


def joined_cautions(*cautions: str | None) -> str | None:
    """Those that there are, in one line."""
    return "; ".join(caution for caution in cautions if caution) or None
