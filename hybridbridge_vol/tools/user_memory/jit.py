"""Programs that write code at run time: by the libraries that they have mapped, or their own name."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ENGINES = (
    (r"libjvm\.so", "Java"),
    (r"node|nodejs|deno|chrome|chromium|electron|code|d8|libnode\.so.*|libv8.*\.so.*", "V8"),
    (r"libmozjs-.*\.so.*|libxul\.so|firefox.*|gjs.*", "SpiderMonkey"),
    (r"libjavascriptcoregtk-.*\.so.*|bun", "JavaScriptCore"),
    (r"libcoreclr\.so|libclrjit\.so", ".NET"),
    (r"libmono.*\.so.*|mono.*", "Mono"),
    (r"libluajit-.*\.so.*|luajit.*", "LuaJIT"),
    (r"libpcre.*\.so.*", "PCRE"),
    (r"libLLVM.*\.so.*|llvmjit\.so", "LLVM"),
    (r"libffi\.so.*", "libffi"),
    (r"qemu-.*|qemu", "QEMU"),
    (r"beam\.smp", "Erlang"),
    (r"pypy.*|libpypy.*\.so.*", "PyPy"),
    (r"opcache\.so", "PHP"),
    (r"liborc-.*\.so.*", "ORC"),
    (r"libgccjit\.so.*", "libgccjit"),
    (r"libQt.*Qml\.so.*", "QML"),
    (r"julia|libjulia.*\.so.*", "Julia"),
    (r"libwasmtime.*\.so.*|wasmtime|wasmer", "WebAssembly"),
    (r"valgrind.*|memcheck-.*", "Valgrind"),
    (r"dosbox.*|wine.*", "an emulator"),
)
_PATTERNS = tuple(
    (re.compile(rf"(?:.*/)?(?:{pattern})(?: \(deleted\))?"), name) for pattern, name in _ENGINES
)


def engines(paths: Iterable[str]) -> list[str]:
    """The names of those whose files are among these paths."""
    known = list(dict.fromkeys(paths))
    return [name for pattern, name in _PATTERNS if any(pattern.fullmatch(path) for path in known)]
