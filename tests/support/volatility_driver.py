"""Volatility's own plugins in one process, with a symbol table of ours: `volatility_driver.py IMAGE SYMBOLS
[NAME...]`.

One line of JSON for each plugin: `name`, `rows` (lists of text), `error` (null or one line). Without names:
all of linux.*, but for those that only forward to a new name.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.modules["jsonschema"] = None  # type: ignore[assignment]  # checking a whole table takes minutes; another test checks a part

import volatility3.plugins
import volatility3.symbols
from volatility3 import framework
from volatility3.framework import automagic, constants, contexts, interfaces, plugins
from volatility3.framework.symbols.linux import network

GIVEN: dict[str, dict[str, Any]] = {
    "linux.module_extract.ModuleExtract": {"base": 0},
    "linux.pagecache.InodePages": {"find": "/etc/hosts"},
    "linux.pagecache.RecoverFs": {"tmpfs_only": True},
    "linux.pscallstack.PsCallStack": {"pid": [1]},
    "linux.vmaregexscan.VmaRegExScan": {"pattern": "/sbin/init", "pid": [1]},
}


class _File(interfaces.plugins.FileHandlerInterface):  # type: ignore[misc]
    """What a plugin writes is thrown away, but for how much it was."""

    _size = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Nothing is kept."""
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Where the next byte would go."""
        return self._size


def chosen() -> dict[str, Any]:
    """Every plugin of Volatility's own for Linux."""
    framework.import_files(volatility3.plugins, True)
    found = {
        name: plugin
        for name, plugin in framework.list_plugins().items()
        if name.startswith("linux.") and ".hb." not in name
    }
    moved = {name.split(".")[-1].lower() for name in found if name.startswith("linux.malware.")}
    return {
        name: plugin
        for name, plugin in sorted(found.items())
        if name.startswith("linux.malware.") or name.split(".")[-1].lower() not in moved
    }


def main(image: str, symbols: str, *names: str) -> None:
    """Run them."""
    volatility3.symbols.__path__ = [os.path.abspath(symbols), *constants.SYMBOL_BASEPATHS]
    context = contexts.Context()
    context.config["automagic.LayerStacker.single_location"] = Path(image).resolve().as_uri()
    found = chosen()
    first = found["linux.pslist.PsList"]
    magic = automagic.choose_automagic(automagic.available(context), first)
    kernel = plugins.construct_plugin(context, magic, first, "plugins", None, _File).config["kernel"]
    module = context.modules[kernel]
    network.NetSymbols.apply(context.symbol_space[module.symbol_table_name])
    for name in names or found:
        print(json.dumps(_answer(context, found[name], name, kernel)), flush=True)


def _answer(context: Any, plugin: Any, name: str, kernel: str) -> dict[str, Any]:
    options = GIVEN.get(name, {}) | {"kernel": kernel, "primary": context.modules[kernel].layer_name}
    for requirement in plugin.get_requirements():
        if requirement.name in options:
            context.config[f"plugins.{plugin.__name__}.{requirement.name}"] = options[requirement.name]
    rows: list[list[str]] = []

    def visit(node: Any, _accumulator: None) -> None:
        absent = interfaces.renderers.BaseAbsentValue
        rows.append([None if isinstance(value, absent) else str(value)[:200] for value in node.values])  # type: ignore[misc]

    try:
        plugins.construct_plugin(context, [], plugin, "plugins", None, _File).run().populate(
            visit, None, fail_on_errors=True
        )
    except Exception as error:  # noqa: BLE001  whatever a plugin raises is its answer
        return {"name": name, "rows": rows, "error": f"{type(error).__name__}: {error}"}
    return {"name": name, "rows": rows, "error": None}


if __name__ == "__main__":
    main(*sys.argv[1:])
