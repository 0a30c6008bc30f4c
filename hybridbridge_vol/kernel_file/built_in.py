"""What of a kernel's modules is part of the kernel itself."""

from __future__ import annotations

import re

from hybridbridge_vol.kernel_file.symbols import Symbols

_LEVEL = r"(?:[0-7]s?|rootfs|early|con)"
"""What ends the name of an initcall (include/linux/init.h)."""


def is_built_in(symbols: Symbols, module: str) -> bool:
    """Whether a kernel has a module inside of it: among its initcalls is the module's.

    They are named after the module and its function (include/linux/init.h since 5.11), before that after the
    function, which most modules name after themselves. A module without an initcall is not found.
    """
    if any(True for _ in symbols.with_prefix(f"__initcall__kmod_{module}__")):
        return True
    own = re.compile(rf"__initcall_{re.escape(module)}_init{_LEVEL}")
    return any(own.fullmatch(name) for _, name in symbols.with_prefix(f"__initcall_{module}_init"))
