"""What `hb trust show` reports about a stored kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hybridbridge_vol.bridge.text.policy import ACTIONS
from hybridbridge_vol.bridge.text.prepare import load_or_error
from hybridbridge_vol.errors import StoreError
from hybridbridge_vol.trust import features, modules
from hybridbridge_vol.trust.store import Entry, Store


@dataclass(frozen=True)
class KernelInfo(Entry):
    """A stored kernel, and what the redirection policy (`symbols/linux.toml`) does with it.

    `redirected_functions`: how many of its functions get each action; `unmatched_names`: the policy's
    patterns that match none of its functions, in the policy's order. `features`: the optional parts of Linux
    that it has, with "(module)" where a stored module brings it; `will_not_work`: what cannot be asked of
    it, and why, a line each.
    """

    features: list[str]
    will_not_work: list[str]
    redirected_functions: dict[str, int]
    unmatched_names: list[str]


def describe_kernel(store: Store, name: str) -> KernelInfo:
    """All that is known about one stored kernel, after checking it against its checksums; `name` as for
    `Store.find`.

    StoreError if there is none or it is damaged, StoreError or BootError if it cannot be bridged.
    """
    entry = store.show(name)
    kernel = store.find(entry.name)
    boots = kernel.boots()
    if not boots:
        raise StoreError(
            f"{kernel.name}: holds no booted kernel; remove it with 'hb trust rm' and add the kernel again"
        )
    prepared = load_or_error(kernel, boots[0])  # the policy matches names: every boot gives the same
    counts = Counter(action for _offset, action, *_rest in prepared.trampolines)
    files = modules.names(kernel.folder)
    return KernelInfo(
        **vars(entry),
        features=list(features.present(kernel.symbols, files)),
        will_not_work=list(features.limits(kernel.symbols, files)),
        redirected_functions={action: counts[action] for action in ACTIONS if action in counts},
        unmatched_names=list(dict.fromkeys(prepared.unmatched)),
    )
