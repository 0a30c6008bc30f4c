"""Volatility with our plugins, asked of this machine instead of an image."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))


@pytest.fixture(scope="session")
def plugins() -> dict[str, Any]:
    """All plugins Volatility finds with `-p plugins`, its own among them, by full name."""
    import volatility3.plugins
    from volatility3 import framework
    from volatility3.framework import constants

    volatility3.plugins.__path__ = [str(ROOT / "plugins"), *constants.PLUGINS_PATH]
    framework.import_files(volatility3.plugins, ignore_errors=True)
    found: dict[str, Any] = framework.list_plugins()
    return found


@pytest.fixture
def asked(plugins: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """`asked(kernel, "ps", pid=[1])`: the TreeGrid of hb.ps, made as a program that uses Volatility makes
    it."""
    from live_kernel import module_of
    from volatility3.framework import contexts
    from volatility3.framework.plugins import construct_plugin

    image = tmp_path / "an image.raw"
    image.write_bytes(b"\0" * 4096)

    def ask(kernel: Any, name: str, location: str | None = image.as_uri(), **options: Any) -> Any:
        monkeypatch.setitem(sys.modules, "hybridbridge_vol.guest.session", module_of(kernel))
        plugin = plugins[f"linux.hb.{name}.{name.capitalize()}"]
        context = contexts.Context()
        if location:
            context.config["automagic.LayerStacker.single_location"] = location
        for option, value in options.items():
            context.config[f"plugins.{plugin.__name__}.{option}"] = value
        return construct_plugin(context, [], plugin, "plugins", None, None).run()

    return ask
