"""The symbol table that every distribution kernel carries in its own image: kallsyms.

scripts/kallsyms.c writes it, kernel/kallsyms.c reads it. The order of its parts, their alignment and the encoding
of addresses changed over the years; nothing here goes by version. The token index is found by its shape, the names
by the markers that count them, and of the possible readings of the addresses the one is taken under which `_text`
lies where the image begins.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.image.symbols import Symbols

__all__ = ["Symbols", "find_symbols"]

MAX_SYMBOLS = 2_000_000
"""Distribution kernels have 90,000 to 200,000."""

_NAMES_PER_MARKER = 256
_MAX_NAME_BYTES = 512
_U64 = (1 << 64) - 1


@dataclass(frozen=True)
class _Tokens:
    """The 256 strings names are made of; `start` and `end` bound table and index in the image."""

    strings: list[bytes]
    start: int
    end: int


@dataclass(frozen=True)
class _Names:
    """`raw` decoded names (the first letter is the kind); `count_offset` is where `num_syms` stands."""

    raw: list[bytes]
    count_offset: int


def find_symbols(image: bytes | bytearray, image_vaddr: int, name: str) -> Symbols:
    """Decode the symbols of a flat kernel image that begins at link-time address `image_vaddr`.

    KernelFileError, naming the file `name`, if no table makes sense.
    """
    for tokens in _find_tokens(image):
        for names in _find_names(image, tokens):
            addresses = _find_addresses(image, image_vaddr, tokens, names)
            if addresses is not None:
                return Symbols.build(
                    (address, chr(raw[0]), raw[1:].decode("latin-1"))
                    for address, raw in zip(addresses, names.raw, strict=True)
                )
    raise KernelFileError(f"{name}: no symbol table in the kernel (built without CONFIG_KALLSYMS_ALL?)")


def _find_tokens(image: bytes | bytearray) -> Iterator[_Tokens]:
    """Places that look like `kallsyms_token_index`: 256 rising 16-bit offsets from 0, the strings right before."""
    import numpy as np

    words = np.frombuffer(image, dtype="<u2", count=len(image) // 2).astype(np.int32)
    rising = np.diff(words)
    sane = (rising >= 2) & (rising <= 64)
    total = np.concatenate(([0], np.cumsum(sane, dtype=np.int64)))
    runs = total[255:] - total[:-255]
    for place in np.nonzero((runs == 255) & (words[: len(runs)] == 0))[0]:
        index_at = 2 * int(place)
        offsets = [int(offset) for offset in words[place : place + 256]]
        for start in range(max(0, index_at - offsets[-1] - 72), index_at - offsets[-1]):
            if any(image[start + offset - 1] for offset in offsets[1:]) or (start and image[start - 1]):
                continue
            strings = [bytes(image[start + o : image.find(b"\0", start + o, start + o + 65)]) for o in offsets]
            if strings[ord("0")] == b"0" and strings[ord("9")] == b"9":
                yield _Tokens(strings, start, index_at + 512)


def _find_names(image: bytes | bytearray, tokens: _Tokens) -> Iterator[_Names]:
    """Name tables before the token table whose every 256th name begins where a marker says."""
    import numpy as np

    low = max(0, tokens.start - (32 << 20)) // 4 * 4
    words = np.frombuffer(image, dtype="<u4", count=(tokens.start - low) // 4, offset=low).astype(np.int64)
    steps = np.diff(words)
    sane = (steps >= _NAMES_PER_MARKER * 2) & (steps <= _NAMES_PER_MARKER * 64)
    # a marker table: a 0, then at least 15 sane steps
    total = np.concatenate(([0], np.cumsum(sane, dtype=np.int64)))
    starts = np.nonzero((words[: len(total) - 15] == 0) & (total[15:] - total[:-15] == 15))[0]
    for start in reversed(starts.tolist()):
        end = start + 1
        while end < len(words) and sane[end - 1]:
            end += 1
        markers = words[start:end].tolist()
        while len(markers) > 15:  # what follows may look like one more marker
            found = _names_for(image, words, low, low + 4 * start, markers, tokens)
            if found is not None:
                yield found
                break
            markers.pop()
            if end - start - len(markers) > 4:
                break


def _names_for(
    image: bytes | bytearray, words: object, low: int, markers_at: int, markers: list[int], tokens: _Tokens
) -> _Names | None:
    import numpy as np

    table = words
    assert isinstance(table, np.ndarray)
    most = _NAMES_PER_MARKER * len(markers)
    last = (markers_at - markers[-1] - low) // 4
    first = max(0, last - _NAMES_PER_MARKER * _MAX_NAME_BYTES // 4)
    window = table[first : last + 1]
    for k in np.nonzero((window > most - _NAMES_PER_MARKER) & (window <= most))[0].tolist():
        count = int(window[k])
        count_at = low + 4 * (first + k)
        for names_at in (count_at + 4, count_at + 8):
            raw = _decode_names(image, names_at, count, markers, tokens.strings, markers_at)
            if raw is not None:
                return _Names(raw, count_at)
    return None


def _decode_names(
    image: bytes | bytearray, start: int, count: int, markers: list[int], strings: list[bytes], limit: int
) -> list[bytes] | None:
    """The names at `start`, or None where they and the markers part."""
    raw: list[bytes] = []
    at = start
    for i in range(count):
        if i % _NAMES_PER_MARKER == 0 and at - start != markers[i // _NAMES_PER_MARKER]:
            return None
        length = image[at]
        at += 1
        if length & 0x80:  # ULEB128, for names over 127 bytes
            length = (length & 0x7F) | image[at] << 7
            at += 1
        if length == 0 or at + length > limit:
            return None
        raw.append(b"".join([strings[token] for token in image[at : at + length]]))
        at += length
    return raw if limit - at < 16 else None


def _find_addresses(
    image: bytes | bytearray, image_vaddr: int, tokens: _Tokens, names: _Names
) -> list[int] | None:
    """Addresses of all names under the first reading that puts `_text` where the image begins."""
    plain = [raw[1:] for raw in names.raw]
    try:
        text, end = plain.index(b"_text"), plain.index(b"_end")
    except ValueError:
        return None
    count = len(plain)
    for at, base_at in _address_tables(tokens, names, count):
        if at < 0 or at + 4 * count > len(image):
            continue
        offsets = struct.unpack_from(f"<{count}i", image, at)
        for addresses in _readings(image, image_vaddr, offsets, at, base_at):
            if addresses[text] == image_vaddr < addresses[end]:
                return addresses
    return None


def _address_tables(tokens: _Tokens, names: _Names, count: int) -> Iterator[tuple[int, int]]:
    """Where `kallsyms_offsets` and `kallsyms_relative_base` may stand."""
    for alignment in (8, 4):
        at = _align(tokens.end, alignment)
        yield at, _align(at + 4 * count, 8)
    base_at = names.count_offset - 8
    for padding in (0, 4):
        yield base_at - padding - 4 * count, base_at
    yield names.count_offset - 4 * count, base_at


def _align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _readings(
    image: bytes | bytearray, image_vaddr: int, offsets: tuple[int, ...], at: int, base_at: int
) -> Iterator[list[int]]:
    """The encodings of kernel/kallsyms.c, `kallsyms_sym_address`, through the years."""
    if 0 <= base_at <= len(image) - 8:
        (base,) = struct.unpack_from("<Q", image, base_at)
        if base >> 31 == (1 << 33) - 1:
            # CONFIG_KALLSYMS_ABSOLUTE_PERCPU: positive values are absolute, negative ones relative to the base
            yield [o if o >= 0 else (base - 1 - o) & _U64 for o in offsets]
            yield [(base + (o & 0xFFFFFFFF)) & _U64 for o in offsets]
    yield [(image_vaddr + at + 4 * i + o) & _U64 for i, o in enumerate(offsets)]
