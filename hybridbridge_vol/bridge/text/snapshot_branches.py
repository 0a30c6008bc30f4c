"""The branches of the twin's text as the snapshot's kernel had patched them: static keys, CPU features.

The keys are read here; `static_keys` and `cpu_features` decide what the code of each branch is, and
`TwinText.page` writes it into a page. All other alternatives stay as the trusted kernel patched them when it
booted. `SnapshotModules` does the same for modules.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.text.cpu_features import FeatureBranches
from hybridbridge_vol.bridge.text.static_keys import JumpLabels
from hybridbridge_vol.bridge.text.twin_text import Patch
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory

_KEY_SIZE = 4  # `static_key.enabled` is a key's first 32 bits, include/linux/jump_label.h


class SnapshotBranches:
    """Both kinds of branches of one kernel, and the snapshot that says how they stand."""

    def __init__(self, labels: JumpLabels, features: FeatureBranches, snapshot: VirtualMemory) -> None:
        self._labels = labels
        self._features = features
        self._snapshot = snapshot

    def patches(self, start: int, stop: int) -> Iterator[Patch]:
        """See `twin_text.BranchState`."""
        yield from self._labels.patches(start, stop, self._key_enabled)
        yield from self._features.patches(start, stop, self._feature_byte)

    def _key_enabled(self, key: int) -> int | None:
        return self._snapshot.static_number(key, _KEY_SIZE, signed=True)

    def _feature_byte(self, offset: int) -> int | None:
        return self._snapshot.static_number(offset, 1)
