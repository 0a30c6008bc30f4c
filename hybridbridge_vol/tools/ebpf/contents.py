"""What maps hold, and the code of programs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from errno import ENOENT

from hybridbridge_vol.bpf import objects as bpf
from hybridbridge_vol.bpf.disassembly import SIZE, Instruction, instruction_text, instructions
from hybridbridge_vol.bpf.typed_values import typed
from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.kernel_file.btf import Btf, parse_btf
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, why
from hybridbridge_vol.toolkit.tool import Row
from hybridbridge_vol.tools.ebpf.helpers import Helpers
from hybridbridge_vol.tools.ebpf.tables import source_of

_PSEUDO_CALL = 1


def elements(kernel: GuestKernel, numbers: tuple[int, ...]) -> Iterator[Row]:
    """One row for each element of these maps."""
    for number in numbers:
        try:
            one = bpf.parse_map(kernel.bpf.info(bpf.MAP, number).data)
            types = _types(kernel, one.btf_id)
            for key, value in kernel.bpf.elements(number):
                if isinstance(value, OSError):
                    if value.errno != ENOENT:  # an empty place
                        refused = f"not given by bpf(2): {value.strerror}"
                        yield Row((number, key.hex(), None, refused), sources=(source_of(bpf.MAP, number),))
                    continue
                yield Row(
                    (number, key.hex(), value.hex(), _typed(types, one, key, value)),
                    sources=(source_of(bpf.MAP, number),),
                )
        except UNREADABLE as error:
            reason = why(f"bpf map {number}", error)
            yield Row((number, reason, reason, reason))


def _types(kernel: GuestKernel, number: int) -> Btf | None:
    if not number:
        return None
    info = attempt(f"bpf btf {number}", lambda: kernel.bpf.info(bpf.BTF, number))
    if isinstance(info, Unavailable):
        return None
    try:
        return parse_btf(info.arrays["data"], f"btf {number}")
    except KernelFileError:
        return None


def _typed(types: Btf | None, one: bpf.Map, key: bytes, value: bytes) -> str | None:
    if types is None:
        return None
    size = one.value_size
    values = (
        [value]
        if len(value) == size
        else [value[at : at + size] for at in range(0, len(value), size + 7 & ~7)]
    )
    parts = [typed(types, one.btf_value, each) for each in values]
    return f"{typed(types, one.btf_key, key)}: {' | '.join(parts)}"


def code(kernel: GuestKernel, numbers: tuple[int, ...]) -> Iterator[Row]:
    """One row for each instruction of these programs."""

    def symbol(vaddr: int) -> str:
        found = attempt("sprint_symbol", lambda: kernel.addresses.symbol(vaddr))
        return f"{vaddr:#x}" if isinstance(found, Unavailable) else found.partition("+")[0]

    helpers = Helpers(kernel, symbol)
    for number in numbers:
        try:
            info = kernel.bpf.info(bpf.PROG, number)
        except UNREADABLE as error:
            reason = why(f"bpf prog {number}", error)
            yield Row((number, reason, reason, reason))
            continue
        functions = info.arrays["functions"]
        vaddrs = struct.unpack(f"<{len(functions) // 8}Q", functions[: len(functions) // 8 * 8])

        def helper(one: Instruction, vaddrs: tuple[int, ...] = vaddrs) -> str:
            if one.source != _PSEUDO_CALL:
                return f"{helpers.symbol(one.value)}#{one.value}"
            return f"#{symbol(vaddrs[one.value])}" if 0 <= one.value < len(vaddrs) else ""

        data = info.arrays["code"]
        for one in instructions(data):
            size = 2 * SIZE if one.code == 0x18 else SIZE
            own = data[SIZE * one.position : SIZE * one.position + size]
            yield Row(
                (number, one.position, own.hex(" "), instruction_text(one, helper)),
                sources=(source_of(bpf.PROG, number),),
            )
