"""Modules that the snapshot had not loaded and that are needed for an answer: added once, and registered.

See `bridge.modules.added_module` for how.
"""

from __future__ import annotations

import errno

from hybridbridge_vol.errors import CallRolledBack, kernel_error
from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.kernel_file.built_in import is_built_in


class AddedModules:
    """The modules that are there, by their names."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy
        self._failed: dict[str, OSError | CallRolledBack] = {}
        self._there: set[str] = set()

    def is_settled(self, name: str) -> bool:
        """Whether a module was added before, or could not be."""
        return name in self._there or name in self._failed

    def has(self, name: str) -> bool:
        """Whether the snapshot itself has a module, loaded or built in."""
        bridge = self._proxy.bridge
        return bridge.space.modules.is_listed(name) or is_built_in(bridge.kernel.symbols, name)

    def need(self, name: str) -> None:
        """Add a module if it is not there yet. OSError or CallRolledBack if that fails, each time."""
        if name in self._failed:
            raise self._failed[name]
        if name in self._there or self.has(name):
            return
        self._proxy.caller.without_sockets()
        try:
            self._add(name)
        except (OSError, CallRolledBack) as error:
            self._failed[name] = error
            raise
        self._there.add(name)
        self._proxy.caller.mark()

    def _add(self, name: str) -> None:
        added = self._proxy.bridge.space.modules.add(name)
        if isinstance(added, str):
            raise OSError(errno.ENOENT, added, "module")
        answer = 0
        if added.init_vaddr is not None:
            answer = signed32(self._proxy.caller.call(added.init_vaddr, label=f"init_module {name}"))
        # busy: a module that is on no list has registered itself
        if answer < 0 and answer != -errno.EBUSY:
            raise kernel_error(answer, name)
