"""Which stored memo fits a trusted kernel. `memo` is what one holds, `memo_file` how it is stored."""

from __future__ import annotations

import warnings

from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.text.policy import policy_digest
from hybridbridge_vol.errors import HybridBridgeWarning, MemoError
from hybridbridge_vol.trust.stored_kernel import StoredKernel


def memo_key(kernel: StoredKernel, levels: int = 4) -> MemoKey:
    """The key of this kernel's memo. With 5-level page tables the kernel's text differs: it is patched by
    `alternatives`."""
    policy = policy_digest() if levels == 4 else f"{policy_digest()}-{levels}-levels"
    return MemoKey(kernel.build_id, policy, kernel.release)


def load_memo(kernel: StoredKernel, levels: int = 4) -> Memo:
    """The stored memo, or with a warning an empty one where it cannot be used: everything is proven again."""
    key = memo_key(kernel, levels)
    try:
        return memo_file.load(kernel.folder, key)
    except MemoError as error:
        warnings.warn(str(error), HybridBridgeWarning, stacklevel=2)
        return Memo(key)
