"""Kernel modules of our own for a guest, out of C, without the kernel's headers or a large compiler.

What a source needs to know of the kernel's structures it says by name, and it is filled in from the kernel's
own type information (BTF): `AT(structure, field)` an offset, `SIZE(structure)` bytes,
`COUNT(structure, field)` elements of an array, `HAS(structure, field)` 0 or 1. The `struct module` that the
loader expects, and what `modinfo` shows, are added here. Debian's kernels load such a module, marked as out
of the tree and without a signature.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from pathlib import Path

from hybridbridge_vol.kernel_file.archives.streams import decompressed_bytes
from hybridbridge_vol.kernel_file.isf.table import btf_section
from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.kernel_file.packages import members
from hybridbridge_vol.kernel_file.struct_layout import StructLayouts
from samples.apt import AptError
from samples.compiler import _TCC, _tree
from samples.kernels import modules_package

_ASKED = re.compile(r"\b(AT|SIZE|COUNT|HAS)\((\w+)(?:, ([\w.]+))?\)")
_NAME_SIZE = 56
"""MODULE_NAME_LEN, include/linux/module.h."""
_SECTION = struct.Struct("<IIQQQQIIQQ")
_RELA = struct.Struct("<QQq")
_SHT_RELA, _SHF_WRITE, _FLAGS_AT = 4, 1, 8
_OWN_STRUCT = b".gnu.linkonce.this_module"
_PC32, _BY_TABLE = 2, (9, 41, 42)
"""R_X86_64_PC32; R_X86_64_GOTPCREL, GOTPCRELX, REX_GOTPCRELX, which the kernel's loader does not know."""
_LOAD, _ADDRESS = 0x8B, 0x8D
"""`mov reg, [rip + X]` and `lea reg, [rip + X]`: a linker makes the one of the other (x86-64 psABI, B.2)."""

_MODULE = """
int init_module(void);
static struct {{
    char before[{name_at}], name[{name_size}], between[{init_at} - {name_at} - {name_size}];
    int (*init)(void);
    char behind[{size} - {init_at} - 8];
}} __this_module __attribute__((section(".gnu.linkonce.this_module"), aligned(64))) = {{
    .name = "{name}", .init = init_module
}};
static const char module_info[] __attribute__((section(".modinfo"))) = "{info}";
#define THIS_MODULE (&__this_module)
{source}
"""


def build(package: Path, source: str, name: str) -> bytes:
    """The module `name` for the kernel in a package. AptError if the source does not compile, as where it
    asks for a field that this kernel does not have."""
    kernel = KernelImage.from_file(package)
    types = StructLayouts(btf_section(kernel), package.name)

    def answer(found: re.Match[str]) -> str:
        question, structure, field = found.groups()
        field = field or ""
        if question == "HAS":
            return str(int(types.has(structure, field)))
        if not types.has(structure, field):
            return f"this_kernel_has_no_{structure}_{field.replace('.', '_')}"
        asked = {"AT": types.offset, "COUNT": types.count}
        return str(asked[question](structure, field) if field else types.size(structure))

    info = (f"vermagic={vermagic(package)}", f"name={name}", "license=GPL", "depends=")
    text = _MODULE.format(
        name=name,
        name_at=types.offset("module", "name"),
        name_size=_NAME_SIZE,
        init_at=types.offset("module", "init"),
        size=types.size("module"),
        source=_ASKED.sub(answer, source),
        info="\\0".join(info),
    )
    return _loadable(bytearray(compile_object(text, name)))


def compile_object(text: str, name: str) -> bytes:
    """The relocatable ELF file that the text of a C source makes, without any library. AptError with the
    compiler's message if it does not compile."""
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / f"{name}.c", Path(scratch) / f"{name}.o"
        source.write_text(text)
        compiler = _tree()
        command: list[str | Path] = [
            compiler / "usr/bin/tcc", f"-B{compiler / _TCC}", "-nostdinc", "-c", "-o", target, source,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = done.stderr.strip().splitlines()
            raise AptError(f"{name} does not compile: {words[-1] if words else 'no reason given'}")
        return target.read_bytes()


def _loadable(data: bytearray) -> bytes:
    """An object file as the kernel's loader takes it: references by way of a table of addresses, which it
    does not know, are direct; the `struct module` can be written."""
    sections_at, size, count, names = (
        int.from_bytes(data[at : at + width], "little")
        for at, width in ((0x28, 8), (0x3A, 2), (0x3C, 2), (0x3E, 2))
    )
    sections = [_SECTION.unpack_from(data, sections_at + number * size) for number in range(count)]
    for number, section in enumerate(sections):
        if data.startswith(_OWN_STRUCT + b"\0", sections[names][4] + section[0]):
            data[sections_at + number * size + _FLAGS_AT] |= _SHF_WRITE
    for _name, kind, _flags, _vaddr, start, length, _link, of, _align, _entry in sections:
        for at in range(start, start + length, _RELA.size) if kind == _SHT_RELA else ():
            place, what, addend = _RELA.unpack_from(data, at)
            if what & 0xFFFFFFFF not in _BY_TABLE:
                continue
            opcode = sections[of][4] + place - 2
            if data[opcode] != _LOAD:
                raise AptError("a kernel module refers to a symbol in an unknown way")
            data[opcode] = _ADDRESS
            _RELA.pack_into(data, at, place, what >> 32 << 32 | _PC32, addend)
    return bytes(data)


def vermagic(package: Path) -> str:
    """What the modules of a package say of the kernel that they are for."""
    for member in members(modules_package(package), "*/kernel/*.ko*"):
        found = re.search(rb"\0?vermagic=([^\0]*)\0", decompressed_bytes(member.data))
        if found:
            return found[1].decode()
    raise LookupError(f"{package.name}: no module says which kernel it is for")
