"""kallsyms: every layout there has been, found wherever it stands, and nothing found where nothing is."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_makers import LAYOUTS, TEXT_VADDR, Layout, MiniKernel, kallsyms, token_table

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.kallsyms import find_parts, find_symbols


def image_with(kernel: MiniKernel, before: bytes = b"", after: bytes = b"") -> bytes:
    start = bytes(64) + before
    return start + kallsyms(kernel.symbols(), kernel.layout, TEXT_VADDR + len(start)) + after


def tokens_and_index() -> bytes:
    tokens = token_table()
    strings = b"".join(token + b"\0" for token in tokens)
    ends = [sum(len(token) + 1 for token in tokens[:number]) for number in range(256)]
    return strings + bytes(-len(strings) % 8) + struct.pack("<256H", *ends)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("functions", [1024, 1500, 1501, 1502, 1503, 2049])
def test_every_layout_is_decoded(layout: Layout, functions: int) -> None:
    kernel = MiniKernel(layout, functions)
    symbols = find_symbols(image_with(kernel), TEXT_VADDR, "vmlinuz")
    assert list(symbols) == kernel.symbols()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_its_parts_are_where_their_contents_are(layout: Layout) -> None:
    kernel = MiniKernel(layout)
    image = image_with(kernel)
    at = {name: vaddr - TEXT_VADDR for name, vaddr in find_parts(image, TEXT_VADDR, "vmlinuz").items()}
    assert bool(at) == (layout.addresses in ("absolute per-CPU", "above base"))
    if not at:
        return
    assert struct.unpack_from("<I", image, at["kallsyms_num_syms"]) == (len(kernel.symbols()),)
    assert struct.unpack_from("<H", image, at["kallsyms_token_index"]) == (0,)
    assert struct.unpack_from("<I", image, at["kallsyms_markers"]) == (0,)
    (second,) = struct.unpack_from("<H", image, at["kallsyms_token_index"] + 2)
    assert image[at["kallsyms_token_table"] + second - 1] == 0
    (base,) = struct.unpack_from("<Q", image, at["kallsyms_relative_base"])
    last = struct.unpack_from("<i", image, at["kallsyms_offsets"] + 4 * (len(kernel.symbols()) - 1))[0]
    assert kernel.symbols()[-1][0] == (base - 1 - last if last < 0 else base + last)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("shift", range(0, 64, 4))
def test_the_tables_are_found_anywhere(layout: Layout, shift: int) -> None:
    kernel = MiniKernel(layout)
    image = image_with(kernel, b"\xcc" * (40_000 + shift), b"\xcc" * 1000)
    assert list(find_symbols(image, TEXT_VADDR, "vmlinuz")) == kernel.symbols()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_tables_that_only_look_similar_are_ignored(layout: Layout) -> None:
    decoy = tokens_and_index()
    markers = struct.pack("<64I", *range(0, 64 * 4096, 4096))
    digits = struct.pack("<128H", *range(128))
    kernel = MiniKernel(layout)
    image = image_with(kernel, digits + markers + decoy + markers + bytes(64))
    assert list(find_symbols(image, TEXT_VADDR, "vmlinuz")) == kernel.symbols()


@pytest.mark.parametrize("landmark", ["_text", "_stext"])
def test_a_table_without_text_and_stext_is_refused(landmark: str) -> None:
    class Without(MiniKernel):
        def symbols(self) -> list[tuple[int, str, str]]:
            return [symbol for symbol in super().symbols() if symbol[2] != landmark]

    with pytest.raises(KernelFileError, match="^vmlinuz: the kernel has no symbol table"):
        find_symbols(image_with(Without()), TEXT_VADDR, "vmlinuz")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_table_of_functions_only_is_found(layout: Layout) -> None:
    class Functions(MiniKernel):
        def symbols(self) -> list[tuple[int, str, str]]:
            return [symbol for symbol in super().symbols() if symbol[1] in "tT"]

    kernel = Functions(layout)
    assert list(find_symbols(image_with(kernel), TEXT_VADDR, "vmlinuz")) == kernel.symbols()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_where_an_image_lies_is_told_by_its_own_symbols(layout: Layout) -> None:
    kernel = MiniKernel(layout)
    assert list(find_symbols(image_with(kernel), None, "vmlinuz")) == kernel.symbols()


def test_addresses_of_another_image_are_refused() -> None:
    with pytest.raises(KernelFileError, match="the kernel has no symbol table"):
        find_symbols(image_with(MiniKernel()), TEXT_VADDR + 0x200000, "vmlinuz")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_truncated_image_is_an_error(layout: Layout) -> None:
    kernel = MiniKernel(layout, 1024)
    image = image_with(kernel)
    needed = len(image) - 3 * len(kernel.symbols())  # the sequence, which may stand last, is not read
    for size in range(0, needed, 4999):
        with pytest.raises(KernelFileError):
            find_symbols(image[:size], TEXT_VADDR, "vmlinuz")


_IMAGES = {name: image_with(MiniKernel(layout, 1024)) for name, layout in LAYOUTS.items()}


@settings(max_examples=100)
@given(st.sampled_from(sorted(LAYOUTS)), st.integers(0, 10**6), st.binary(min_size=1, max_size=64))
def test_damage_raises_nothing_but_kernel_file_errors(name: str, place: int, junk: bytes) -> None:
    image = bytearray(_IMAGES[name])
    place %= len(image)
    image[place : place + len(junk)] = junk
    try:
        symbols = find_symbols(image, TEXT_VADDR, "vmlinuz")
    except KernelFileError:
        return
    assert symbols.address("_text") == TEXT_VADDR


@given(st.binary(max_size=4096))
def test_random_images_have_no_symbols(image: bytes) -> None:
    with pytest.raises(KernelFileError):
        find_symbols(image, TEXT_VADDR, "vmlinuz")


@pytest.mark.parametrize(
    "filling",
    [
        bytes(8),
        struct.pack("<2I", 0, 600),
        struct.pack("<4I", 0, 600, 1200, 1800),
        struct.pack("<5I", 0, 600, 1200, 1800, 1000),
        struct.pack("<I", 1000),
    ],
    ids=["zeros", "pairs", "markers", "markers and counts", "counts"],
)
def test_a_hostile_image_takes_little_time(filling: bytes) -> None:
    """Each sends a search without bounds over the image again and again."""
    image = filling * ((4 << 20) // len(filling)) + tokens_and_index() * 50
    with pytest.raises(KernelFileError):
        find_symbols(image, TEXT_VADDR, "vmlinuz")
