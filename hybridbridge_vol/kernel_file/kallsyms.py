"""The symbol table that every distribution kernel carries in its own image: kallsyms.

scripts/kallsyms.c writes it, kernel/kallsyms.c reads it. The order of its parts, their alignment and the
encoding of addresses changed over the years, and distributions backport changes, so nothing here depends on
the version:

    before 4.20  as 5.10, with markers and num_syms of 8 bytes instead of 4
    5.10         addresses, num_syms, names, markers, token table, token index
    6.2          addresses, num_syms, names, markers, sequence, token table, token index
    6.4          num_syms, names, markers, token table, token index, addresses, sequence
    7.0          the same, aligned to 4 instead of 8 bytes, each address relative to its own position

The token table is found by its form, and the names by the markers that count them. Several encodings of
the addresses are tried: the right one puts `_text` at the start of the image and gives ascending addresses.
"""

from __future__ import annotations

import operator
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.units import START_KERNEL_MAP, U64

__all__ = ["Symbols", "find_parts", "find_symbols"]

MAX_SYMBOLS = 2_000_000
"""Distribution kernels have 90,000 to 200,000."""
USUAL_VADDR = START_KERNEL_MAP + (16 << 20)
"""`_text` with the default CONFIG_PHYSICAL_START."""
PHYSICAL_ALIGN = 2 << 20
"""CONFIG_PHYSICAL_ALIGN of a 64-bit kernel at least (arch/x86/Kconfig)."""
KERNEL_IMAGE_SIZE = 1 << 30
"""The most bytes there may be from `_text` to `_end` (arch/x86/include/asm/page_64_types.h)."""

_KSYM_NAME_LEN = 512  # include/linux/kallsyms.h; the letter of the kind included
_PER_MARKER = 256
_MARKER_STEPS = range(_PER_MARKER * 2, _PER_MARKER * (_KSYM_NAME_LEN + 2) + 1)
"""Bytes that 256 encoded names may have: a length and a token each at least."""
_FEWEST_MARKERS = 4
_FALSE_MARKERS = 2
"""Up to this many words after the last marker may look like markers too."""
_SEARCH_BACK = (3 + 1) * MAX_SYMBOLS
"""Bytes there may be from the start of the markers to the token table: sequence (3 a symbol) and markers."""
_SEARCH_STEP = 1 << 20
_TOKEN_TABLES_TRIED, _MARKER_RUNS_TRIED, _COUNTS_TRIED = 4, 16, 16
"""In a kernel the first one is right; these bound the time for a hostile file."""
_DIGIT_TOKENS = b"\0" + b"".join(b"%d\0" % digit for digit in range(10))
"""A character that occurs in names is its own token (`insert_real_symbols_in_table`), and all digits do."""
_TOKEN_INDEX_SIZE = 512
_MARKER_WORDS = (struct.Struct("<I"), struct.Struct("<Q"))
"""Markers as `unsigned int`, and as `unsigned long` before 4.20."""

Image = bytes | bytearray


@dataclass(frozen=True)
class _Tokens:
    """The 256 strings that names are made of. The table begins at image offset `start`, the index ends at
    `end`."""

    strings: tuple[bytes, ...]
    start: int
    end: int


@dataclass(frozen=True)
class _Names:
    """`raw` decoded names (the first letter is the kind); image offsets of `num_syms`, of the encoded names
    and of their markers."""

    raw: list[bytes]
    count_offset: int
    names_offset: int
    markers_offset: int


@dataclass(frozen=True)
class _Addresses:
    """The addresses, one for each name; image offsets of the words they come from, and of `relative_base` if
    any."""

    values: list[int]
    words_offset: int
    base_offset: int | None


def find_symbols(image: Image, image_vaddr: int | None, name: str) -> Symbols:
    """Decode the symbols of a flat kernel image that begins at link-time address `image_vaddr`, or, for None,
    wherever its `_text` says.

    Without CONFIG_KALLSYMS_ALL they are functions only. KernelFileError, naming the file `name`, if no table
    makes sense.
    """
    _tokens, names, addresses = _find(image, image_vaddr, name)
    return Symbols.from_columns(addresses.values, names.raw)


def find_parts(image: Image, image_vaddr: int, name: str) -> dict[str, int]:
    """Link-time addresses of the table's own parts, by the kernel's names for them, which kernels before 6.2
    leave out of their table. Raises as `find_symbols`."""
    tokens, names, addresses = _find(image, image_vaddr, name)
    if addresses.base_offset is None:
        return {}
    offsets = {
        "kallsyms_offsets": addresses.words_offset,
        "kallsyms_relative_base": addresses.base_offset,
        "kallsyms_num_syms": names.count_offset,
        "kallsyms_names": names.names_offset,
        "kallsyms_markers": names.markers_offset,
        "kallsyms_token_table": tokens.start,
        "kallsyms_token_index": tokens.end - _TOKEN_INDEX_SIZE,
    }
    return {part: image_vaddr + offset for part, offset in offsets.items()}


def _find(image: Image, image_vaddr: int | None, name: str) -> tuple[_Tokens, _Names, _Addresses]:
    for tokens in _find_tokens(image):
        for names in _find_names(image, tokens):
            addresses = _find_addresses(image, image_vaddr, tokens, names)
            if addresses is not None:
                return tokens, names, addresses
    raise KernelFileError(
        f"{name}: the kernel has no symbol table (CONFIG_KALLSYMS); give a distribution's kernel"
    )


def _find_tokens(image: Image) -> Iterator[_Tokens]:
    """Every `kallsyms_token_table` whose `kallsyms_token_index` agrees with it."""
    tried = 0
    at = image.find(_DIGIT_TOKENS)
    while at >= 0 and tried < _TOKEN_TABLES_TRIED:
        tokens = _tokens_around(image, at + 1)
        if tokens is not None:
            yield tokens
            tried += 1
        at = image.find(_DIGIT_TOKENS, at + 1)


def _tokens_around(image: Image, digits_at: int) -> _Tokens | None:
    """The token table whose token "0" is at `digits_at`, if an index that agrees with it follows."""
    rest = bytes(image[digits_at : digits_at + 0x10000]).split(b"\0", 256 - ord("0"))[:-1]
    table_end = digits_at + sum(map(len, rest)) + len(rest)
    for index_at in (_align(table_end, 4), _align(table_end, 8)):
        if index_at + _TOKEN_INDEX_SIZE > len(image):
            break
        index = struct.unpack_from("<256H", image, index_at)
        start = digits_at - index[ord("0")]
        if start < 0:
            continue
        strings = bytes(image[start:table_end]).split(b"\0")[:-1]
        if index == tuple(accumulate((len(string) + 1 for string in strings[:-1]), initial=0)):
            return _Tokens(tuple(strings), start, index_at + _TOKEN_INDEX_SIZE)
    return None


def _find_names(image: Image, tokens: _Tokens) -> Iterator[_Names]:
    """Name tables before the token table whose every 256th name begins where a marker says, nearest first."""
    for word in _MARKER_WORDS:
        for markers_at, run in islice(_marker_runs(image, tokens.start, word), _MARKER_RUNS_TRIED):
            for number in range(len(run), max(len(run) - _FALSE_MARKERS, _FEWEST_MARKERS) - 1, -1):
                names = _names_before(image, markers_at, run[:number], tokens.strings)
                if names is not None:
                    yield names
                    break


def _marker_runs(image: Image, end: int, word: struct.Struct) -> Iterator[tuple[int, list[int]]]:
    """`(offset, words)` of what may be markers before `end`, nearest first: a 0, then plausible steps."""
    size = word.size
    end = end // size * size
    lowest = max(0, end - _SEARCH_BACK // size * size)
    for stop in range(end, lowest, -_SEARCH_STEP):
        start = max(lowest, stop - _SEARCH_STEP)
        pairs = pairwise(array(word.format[-1], bytes(image[start : min(stop + size, end)])))
        found = [
            start + size * i for i, (first, after) in enumerate(pairs) if not first and after in _MARKER_STEPS
        ]
        for markers_at in reversed(found):
            run = [0]
            for at in range(markers_at + size, end, size):
                (marker,) = word.unpack_from(image, at)
                if marker - run[-1] not in _MARKER_STEPS:
                    break
                run.append(marker)
            if len(run) >= _FEWEST_MARKERS:
                yield markers_at, run


def _names_before(
    image: Image, markers_at: int, markers: list[int], strings: tuple[bytes, ...]
) -> _Names | None:
    """The names that end where their markers begin; `num_syms`, before them, says how many."""
    counts = range(_PER_MARKER * (len(markers) - 1) + 1, _PER_MARKER * len(markers) + 1)
    nearest = (markers_at - markers[-1]) // 4 * 4
    furthest = max(0, nearest - _MARKER_STEPS.stop // 4 * 4)
    words = array("I", bytes(image[furthest : max(nearest, 0)]))
    found = (index for index in range(len(words) - 1, -1, -1) if words[index] in counts)
    for index in islice(found, _COUNTS_TRIED):
        count_at = furthest + 4 * index
        for names_at in (count_at + 4, count_at + 8):
            after_marker = words[index] - counts.start + 1
            if _ends_with_padding(image, names_at + markers[-1], markers_at, after_marker):
                raw = _decode_names(bytes(image[names_at:markers_at]), words[index], markers, strings)
                if raw is not None:
                    return _Names(raw, count_at, names_at, markers_at)
    return None


def _ends_with_padding(image: Image, at: int, end: int, count: int) -> bool:
    """Whether `count` encoded names from offset `at` on, and fewer than eight zeros, reach to `end`."""
    for _ in range(count):
        if at >= end - 1:
            return False
        length = image[at]
        at += 1 + length if length < 0x80 else 2 + (length & 0x7F | image[at + 1] << 7)
    return at <= end < at + 8 and not any(image[at:end])


def _decode_names(
    encoded: bytes, count: int, markers: list[int], strings: tuple[bytes, ...]
) -> list[bytes] | None:
    """The names, or None where they and the markers disagree. A length is ULEB128 of up to two bytes."""
    raw: list[bytes] = []
    string = strings.__getitem__
    at = 0
    for number in range(count):
        if number % _PER_MARKER == 0 and at != markers[number // _PER_MARKER]:
            return None
        if at >= len(encoded) - 1:
            return None
        length = encoded[at]
        at += 1
        if length >= 0x80:
            length = length & 0x7F | encoded[at] << 7
            at += 1
        if not 0 < length <= _KSYM_NAME_LEN:
            return None
        name = b"".join(map(string, encoded[at : at + length]))
        if not 1 < len(name) <= _KSYM_NAME_LEN:
            return None
        raw.append(name)
        at += length
    return raw


def _find_addresses(
    image: Image, image_vaddr: int | None, tokens: _Tokens, names: _Names
) -> _Addresses | None:
    """Addresses of all names by the first encoding that makes sense."""
    landmarks = {}
    for number, raw in enumerate(names.raw):
        if raw[1:] in (b"_text", b"_stext", b"_end"):
            landmarks[raw[1:]] = number
    text, stext = landmarks.get(b"_text"), landmarks.get(b"_stext")
    if text is None or stext is None:
        return None
    end = landmarks.get(b"_end", len(names.raw) - 1)  # without it (functions only) whatever is last
    for address, words_offset, base_offset in _encodings(image, image_vaddr or USUAL_VADDR, tokens, names):
        start = _whole_vaddr(address(text)) if image_vaddr is None else image_vaddr
        if (
            start is not None
            and address(text) == start <= address(stext) < address(end) <= start + KERNEL_IMAGE_SIZE
        ):
            addresses = [address(number) for number in range(len(names.raw))]
            # kernel/kallsyms.c bisects them
            if all(map(operator.le, addresses, addresses[1:])):
                return _Addresses(addresses, words_offset, base_offset)
    return None


def _whole_vaddr(text_vaddr: int) -> int | None:
    """That of an image of which only `_text` is known: itself if a kernel can be linked there."""
    distance = text_vaddr - START_KERNEL_MAP
    return text_vaddr if 0 <= distance < KERNEL_IMAGE_SIZE and distance % PHYSICAL_ALIGN == 0 else None


def _encodings(
    image: Image, image_vaddr: int, tokens: _Tokens, names: _Names
) -> Iterator[tuple[Callable[[int], int], int, int | None]]:
    """Where and how addresses may be encoded (`kallsyms_sym_address`): the address as a function of the
    symbol's number, the image offset of the words, and that of `relative_base` if there is one."""
    count = len(names.raw)
    after = sorted({_align(tokens.end, 4), _align(tokens.end, 8)})
    base_at = names.count_offset - 8
    for at in (_align(base_at - 4 * count - 7, 8), base_at - 4 * count, *after):
        words = _column(image, at, "i", count)
        if words is None:
            continue
        base_offset = base_at if at < base_at else _align(at + 4 * count, 8)
        base = _column(image, base_offset, "Q", 1)
        if base is not None:
            yield _absolute_percpu(words, base[0]), at, base_offset
            yield _above_base(words, base[0]), at, base_offset
        yield _from_own_position(words, image_vaddr + at), at, None
    for at in (names.count_offset - 8 * count, *after):
        plain = _column(image, at, "Q", count)
        if plain is not None:
            yield plain.__getitem__, at, None


def _absolute_percpu(words: array[int], base: int) -> Callable[[int], int]:
    """CONFIG_KALLSYMS_ABSOLUTE_PERCPU: positive words are values, negative ones lie above `relative_base`."""
    return lambda number: words[number] if words[number] >= 0 else (base - 1 - words[number]) & U64


def _above_base(words: array[int], base: int) -> Callable[[int], int]:
    """CONFIG_KALLSYMS_BASE_RELATIVE alone: unsigned distances from `relative_base`."""
    return lambda number: (base + (words[number] & 0xFFFFFFFF)) & U64


def _from_own_position(words: array[int], words_vaddr: int) -> Callable[[int], int]:
    """Since 7.0: signed distances from the word itself (`offset_to_ptr`)."""
    return lambda number: (words_vaddr + 4 * number + words[number]) & U64


def _column(image: Image, at: int, kind: str, count: int) -> array[int] | None:
    """`count` numbers from offset `at` on; None if the image ends before."""
    column = array(kind)
    if at < 0 or at + column.itemsize * count > len(image):
        return None
    column.frombytes(memoryview(image)[at : at + column.itemsize * count])
    return column


def _align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
