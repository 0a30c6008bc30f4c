"""Kernels in miniature, made from the formats' descriptions and by other people's writers."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import lz4.block
import zstandard

TEXT_VADDR = 0xFFFFFFFF81000000
START_KERNEL_MAP = 0xFFFFFFFF80000000
BANNER = "Linux version 6.6.6-test (builder@host) (gcc) #1 SMP Test 6.6.6-1 (2026-01-01)\n"
BUILD_ID = bytes(range(20))
CONFIG = "CONFIG_KALLSYMS=y\nCONFIG_KALLSYMS_ALL=y\n"

Symbol = tuple[int, str, str]


# --- kallsyms (scripts/kallsyms.c) ---

_TOKENS = ("sys_", "init", "__", "per_cpu", "_end", "__x64_", "lock", "read", "Tsys_call_", "_of_", "\x7f")


def token_table() -> list[bytes]:
    """256 tokens: characters for themselves, the other codes for longer strings."""
    spare = iter(_TOKENS)
    return [
        chr(code).encode() if 0x21 <= code < 0x7F else (next(spare, "") or f"~{code}").encode()
        for code in range(256)
    ]


_CODES = {token: code for code, token in enumerate(token_table())}
_ANY_TOKEN = re.compile(b"|".join(re.escape(token) for token in sorted(_CODES, key=len, reverse=True)))


def encoded_name(text: str) -> bytes:
    """A kind and a name as tokens behind their number (ULEB128)."""
    tokens = bytes(_CODES[token] for token in _ANY_TOKEN.findall(text.encode()))
    size = len(tokens)
    return (bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])) + tokens


@dataclass(frozen=True)
class Layout:
    """One of the ways kallsyms has been laid out."""

    addresses: str = "absolute per-CPU"
    addresses_first: bool = True
    sequence: bool = False
    alignment: int = 8
    marker_size: int = 4


LAYOUTS = {
    "4.18": Layout(marker_size=8),
    "5.10": Layout(),
    "6.1 as Debian has it": Layout(sequence=True),
    "6.12": Layout(addresses_first=False, sequence=True),
    "6.15": Layout("above base", addresses_first=False, sequence=True),
    "7.x": Layout("from own place", addresses_first=False, sequence=True, alignment=4),
    "64-bit addresses": Layout("plain"),
}


def kallsyms(symbols: Sequence[Symbol], layout: Layout, at_vaddr: int) -> bytes:
    """The tables for `symbols` (ascending), as they stand at `at_vaddr`."""
    out = bytearray()
    base = next(address for address, _, _ in symbols if address >= TEXT_VADDR)

    def align(to: int = layout.alignment) -> None:
        out.extend(bytes(-(at_vaddr + len(out)) % to))

    def put_addresses() -> None:
        align()
        for address, _, _ in symbols:
            if layout.addresses == "plain":
                out.extend(struct.pack("<Q", address))
            elif layout.addresses == "from own place":
                out.extend(struct.pack("<i", address - (at_vaddr + len(out))))
            elif layout.addresses == "above base":
                out.extend(struct.pack("<I", address - base))
            else:
                out.extend(struct.pack("<i", address if address < TEXT_VADDR else base - 1 - address))
        if layout.addresses in ("above base", "absolute per-CPU"):
            align()
            out.extend(struct.pack("<Q", base))

    if layout.addresses_first:
        put_addresses()
    align()
    out += len(symbols).to_bytes(layout.marker_size, "little")
    align()
    markers, names = [], bytearray()
    for number, (_, kind, name) in enumerate(symbols):
        if number % 256 == 0:
            markers.append(len(names))
        names += encoded_name(kind + name)
    out += names
    align()
    out += b"".join(marker.to_bytes(layout.marker_size, "little") for marker in markers)
    sequence = b"".join(number.to_bytes(3, "big") for number in range(len(symbols)))
    if layout.sequence and layout.addresses_first:
        align()
        out += sequence
    align()
    tokens = token_table()
    out += b"".join(token + b"\0" for token in tokens)
    align()
    index = [0]
    for token in tokens[:-1]:
        index.append(index[-1] + len(token) + 1)
    out += struct.pack("<256H", *index)
    if not layout.addresses_first:
        put_addresses()
        if layout.sequence:
            out += sequence
    return bytes(out)


# --- the kernel's ELF, its relocations, the bzImage around it ---


@dataclass
class MiniKernel:
    """A kernel in miniature: a page of text, banner, notes, config, kallsyms, relocations."""

    layout: Layout = field(default_factory=Layout)
    functions: int = 1500
    abs32: Sequence[int] = (TEXT_VADDR + 0x20, TEXT_VADDR + 0x10)
    inverse32: Sequence[int] | None = (TEXT_VADDR + 0x30,)
    abs64: Sequence[int] = (TEXT_VADDR + 0x48, TEXT_VADDR + 0x40)

    def symbols(self) -> list[Symbol]:
        text = TEXT_VADDR
        functions = [
            (text + 0x100 + 16 * i, "T", f"sys_call_{i}_of_{hashlib.md5(b'%d' % i).hexdigest()}")
            for i in range(self.functions)
        ]
        per_cpu = (
            []
            if self.layout.addresses in ("from own place", "above base")
            else [(0, "D", "__per_cpu_start"), (0, "D", "fixed_percpu_data"), (0x1FB80, "D", "current_task")]
        )
        return [
            *per_cpu,
            (text, "T", "_text"),
            (text, "T", "startup_64"),
            (text + 0x80, "T", "_stext"),
            *functions,
            (text + 0x10000, "R", "linux_banner"),
            (text + 0x11000, "R", "__start_notes"),
            (text + 0x11000 + len(self.notes()), "R", "__stop_notes"),
            (text + 0x12000, "t", "twice"),
            (
                text + 0x12010,
                "t",
                "long_" + hashlib.sha512(b"long").hexdigest() + hashlib.sha256(b"long").hexdigest(),
            ),
            (text + 0x12020, "t", "twice"),
            (text + 0x200000, "B", "_end"),
        ]

    def notes(self) -> bytes:
        other = struct.pack("<III", 6, 3, 0x100) + b"Xen\0\0\0\0\0" + b"\1\2\3\0"
        return other + struct.pack("<III", 4, len(BUILD_ID), 3) + b"GNU\0" + BUILD_ID

    def text_segment(self) -> bytes:
        image = bytearray(0x13000)
        for vaddr in self.abs64:
            struct.pack_into("<Q", image, vaddr - TEXT_VADDR, TEXT_VADDR + 0x100)
        image[0x10000 : 0x10000 + len(BANNER)] = BANNER.encode()
        image[0x11000 : 0x11000 + len(self.notes())] = self.notes()
        image += b"IKCFG_ST" + gzip.compress(CONFIG.encode(), mtime=0) + b"IKCFG_ED"
        image += bytes(-len(image) % 64)
        return bytes(image) + kallsyms(self.symbols(), self.layout, TEXT_VADDR + len(image))

    def relocations(self) -> bytes:
        lists = (
            [self.abs64, self.abs32] if self.inverse32 is None else [self.abs64, self.inverse32, self.abs32]
        )
        return b"".join(
            struct.pack(f"<{len(sites) + 1}I", 0, *(site & 0xFFFFFFFF for site in sites)) for sites in lists
        )

    def vmlinux(self) -> bytes:
        text = self.text_segment()
        data = b"DATA" * 16
        segments = [
            (0x1000, TEXT_VADDR, TEXT_VADDR - START_KERNEL_MAP, text, len(text)),
            (
                0x1000 + len(text),
                TEXT_VADDR + 0x100000,
                TEXT_VADDR + 0x100000 - START_KERNEL_MAP,
                data,
                0x100000,
            ),
        ]
        return elf(segments, TEXT_VADDR - START_KERNEL_MAP) + b"\0.shstrtab\0\0" + self.relocations()

    def vmlinuz(self, method: str = "gzip") -> bytes:
        return bzimage(COMPRESSORS[method](self.vmlinux()))


def elf(segments: Sequence[tuple[int, int, int, bytes, int]], entry_paddr: int) -> bytes:
    """A 64-bit ELF of `(file offset, vaddr, paddr, bytes, size in memory)` segments."""
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, entry_paddr, 64, 0, 0, 64, 56, len(segments), 64, 0, 0
    )
    for offset, vaddr, paddr, data, mem_size in segments:
        header += struct.pack("<IIQQQQQQ", 1, 5, offset, vaddr, paddr, len(data), mem_size, 0x200000)
    out = bytearray(header)
    for offset, _, _, data, _ in segments:
        out += bytes(offset - len(out)) + data
    return bytes(out)


def _sections(body: bytes, sections: Sequence[tuple[int, int, int, bytes, int]]) -> bytes:
    """`body`, an ELF, with sections of `(type, flags, vaddr, content, link)` behind it."""
    out = bytearray(body)
    headers = [bytes(64)]
    for kind, flags, vaddr, content, link in sections:
        offset = len(out)
        headers.append(struct.pack("<IIQQQQIIQQ", 0, kind, flags, vaddr, offset, len(content), link, 0, 1, 0))
        out += content
    struct.pack_into("<Q", out, 0x28, len(out))
    struct.pack_into("<HHH", out, 0x3A, 64, len(headers), 0)
    return bytes(out) + b"".join(headers)


def _symbol_table(symbols: Sequence[tuple[int, int, int, int, str]]) -> tuple[bytes, bytes]:
    """A symbol table of `(value, size, info, section, name)`, and its names."""
    table, names = bytearray(24), bytearray(1)
    for value, size, info, section, name in symbols:
        table += struct.pack("<IBBHQQ", len(names), info, 0, section, value, size)
        names += name.encode() + b"\0"
    return bytes(table), bytes(names)


def library(objects: dict[str, bytes]) -> bytes:
    """A shared library with global objects of data."""
    data, symbols = bytearray(), []
    for name, content in objects.items():
        symbols.append((0x10000 + len(data), len(content), 0x11, 3, name))
        data += content
    table, names = _symbol_table(symbols)
    header = bytearray(elf([(0x1000, 0, 0, b"", 0)], 0))
    struct.pack_into("<H", header, 16, 3)
    return _sections(
        bytes(header), [(11, 2, 0, table, 2), (3, 2, 0, names, 0), (1, 3, 0x10000, bytes(data), 0)]
    )


def with_symbol_table(vmlinux: bytes, symbols: Sequence[Symbol]) -> bytes:
    """An ELF with a `.symtab` behind it, and one section for everything."""
    rows = [(vaddr, 0, 0x10 if kind.isupper() else 0, 3, name) for vaddr, kind, name in symbols]
    table, names = _symbol_table([(0, 0, 4, 0xFFF1, "head.S"), (5, 0, 0, 3, ".L5"), *rows])
    return _sections(vmlinux, [(2, 0, 0, table, 2), (3, 0, 0, names, 0), (1, 7, TEXT_VADDR, b"", 0)])


def _with_size(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: compress(data) + struct.pack("<I", len(data))


def _lz4_legacy(data: bytes) -> bytes:
    out = bytearray(b"\x02\x21\x4c\x18")
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[start : start + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return bytes(out)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": _with_size(lambda data: lzma.compress(data, check=lzma.CHECK_CRC32)),
    "lzma": _with_size(lambda data: lzma.compress(data, lzma.FORMAT_ALONE)),
    "bzip2": _with_size(bz2.compress),
    "zstd": _with_size(lambda data: zstandard.ZstdCompressor().compress(data)),
    "lz4": _with_size(_lz4_legacy),
}


def bzimage(payload: bytes, sectors: int = 7, version: int = 0x20F) -> bytes:
    """A bzImage (Documentation/arch/x86/boot.rst): boot sector and setup, then the decompressor with its
    payload.
    """
    setup = bytearray((sectors + 1) * 512)
    setup[0x1F1] = sectors
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    decompressor = b"\x90" * 0x300
    struct.pack_into("<II", setup, 0x248, len(decompressor), len(payload))
    return bytes(setup) + decompressor + payload + b"after the payload"
