"""Volatility 3's symbol table (ISF, schema 6.2.0) of a kernel, from what the kernel itself carries.

Types come from its BTF, symbols from its kallsyms: no debug package is needed. As in tables of dwarf2json,
typedefs and qualifiers are resolved, anonymous structs are called `unnamed_N`, and a symbol of unknown type
is `void`.
"""

from __future__ import annotations

import base64
import json
import lzma
import os
import tempfile
from bisect import bisect_right
from pathlib import Path

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.btf import btf_range, parse_btf
from hybridbridge_vol.kernel_file.isf.types import VOID, Descriptor, IsfTypes, JsonObject
from hybridbridge_vol.kernel_file.isf.variables import ALIASES, SYMBOL_TYPES
from hybridbridge_vol.kernel_file.kallsyms import find_parts
from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.kernel_file.symbols import renamed_whole
from hybridbridge_vol.units import Progress

SCHEMA = "6.2.0"
_MAX_VARIABLE_SIZE = 1 << 20


def isf_of(kernel: KernelImage) -> JsonObject:
    """The symbol table of a kernel, as JSON. KernelFileError if the kernel has no BTF or it is damaged.

    Addresses are link-time addresses: Volatility finds KASLR's shift by itself.
    """
    types = IsfTypes(parse_btf(btf_section(kernel), str(kernel.path)))
    return {
        "metadata": {
            "format": SCHEMA,
            "producer": {"name": "hybridbridge", "version": "1"},
            "linux": {"symbols": [], "types": []},
        },
        "base_types": types.base_types,
        "user_types": types.user_types,
        "enums": types.enums,
        "symbols": _symbols(kernel, types),
    }


def write_isf(table: JsonObject, path: Path, progress: Progress | None = None) -> None:
    """Write a symbol table as `.json`, or compressed if the name ends in `.xz`; the file appears by a
    rename, when it is complete."""
    report = progress or (lambda _fraction, _text: None)
    report(0.6, "writing")
    data = json.dumps(table, separators=(",", ":")).encode()
    if path.suffix == ".xz":
        report(0.7, "compressing")
        data = lzma.compress(data, preset=1)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
        try:
            temporary.write(data)
            os.fchmod(temporary.fileno(), 0o644)
            temporary.flush()
            os.replace(temporary.name, path)
        except BaseException:
            os.unlink(temporary.name)
            raise


def btf_section(kernel: KernelImage) -> bytes:
    """The bytes of `.BTF` (include/asm-generic/vmlinux.lds.h). KernelFileError if the kernel was built
    without."""
    place = btf_range(kernel.symbols)
    if place is None:
        raise KernelFileError(
            f"{kernel.path}: carries no type information (CONFIG_DEBUG_INFO_BTF), "
            "so no symbol table can be made of it"
        )
    text = kernel.symbols.address("_text")
    return bytes(kernel.flat()[place[0] - text : place[1] - text])


def _symbols(kernel: KernelImage, types: IsfTypes) -> JsonObject:
    addresses = sorted({address for address, _kind, _name in kernel.symbols})
    symbols: JsonObject = {}
    for address, _kind, name in kernel.symbols:
        if name in symbols:
            continue  # static variables of one name: the lowest
        end = bisect_right(addresses, address)
        size = addresses[end] - address if end < len(addresses) else 0
        descriptor = _declared(name, types, min(size, _MAX_VARIABLE_SIZE))
        symbols[name] = {"address": address, "type": descriptor or types.variables.get(name, VOID)}
    aliases = {plain: symbols[name]["address"] for name in symbols if (plain := renamed_whole(name))}
    aliases |= {name: symbols[real]["address"] for name, real in ALIASES.items() if real in symbols}
    for name, address in {**aliases, **_kallsyms_parts(kernel)}.items():
        symbols.setdefault(name, {"address": address, "type": _declared(name, types, 0) or VOID})
    banner = kernel.banner.encode("latin-1") + b"\0"
    symbols["linux_banner"] = {
        "address": kernel.symbols.address("linux_banner"),
        "type": {"kind": "array", "count": len(banner), "subtype": {"kind": "base", "name": "char"}},
        "constant_data": base64.b64encode(banner).decode(),
    }
    return symbols


def _kallsyms_parts(kernel: KernelImage) -> dict[str, int]:
    """Addresses of the symbol table's own parts, which Volatility's reader asks for, of kernels whose table
    does not list them."""
    if "kallsyms_num_syms" in kernel.symbols:
        return {}
    return find_parts(kernel.flat(), kernel.symbols.address("_text"), str(kernel.path))


def _declared(name: str, types: IsfTypes, size: int) -> Descriptor | None:
    """The type of a variable of `SYMBOL_TYPES`, which is `size` bytes long; None for other variables, and for
    types that the kernel does not have."""
    if name not in SYMBOL_TYPES:
        return None
    how, what = SYMBOL_TYPES[name]
    found = types.struct_with(set(what.split())) if how == "with" else types.struct(what) or types.base(what)
    if found is None:
        return None
    if how in ("pointer", "pointers"):
        found = {"kind": "pointer", "subtype": found}
    if how in ("array", "pointers"):
        return {"kind": "array", "count": size // (types.size_of(found) or 1), "subtype": found}
    return found
