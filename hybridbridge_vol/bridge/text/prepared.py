"""What the bridge derives from one booted kernel, once: relocation sites, trampolines, offsets.

It is stored beside the boot it belongs to, named by the policy it follows, and made again when absent or
damaged. Structure offsets are found by value in the booted kernel (which word of the proxy task's
`task_struct` is `&init_nsproxy`?), so no debug information is needed.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

from hybridbridge_vol.bridge.text.call_hashes import CallHashes
from hybridbridge_vol.bridge.text.cpu_features import FeatureBranches
from hybridbridge_vol.bridge.text.file_system_form import FileSystemForm
from hybridbridge_vol.bridge.text.per_cpu_references import PerCpuText
from hybridbridge_vol.bridge.text.policy import Trampoline
from hybridbridge_vol.bridge.text.proxy_task import ProxyTask
from hybridbridge_vol.bridge.text.runtime_constants import RuntimeConstants
from hybridbridge_vol.bridge.text.slab_fields import SlabFields
from hybridbridge_vol.bridge.text.static_keys import JumpLabels
from hybridbridge_vol.bridge.text.twin_text import Sites, Words

RELOCATIONS = {"abs32": (1, 4), "inverse32": (-1, 4), "abs64": (1, 8)}
"""Kinds of relocation sites (`kernel_file.relocations`): the sign with which the kernel's shift is added, and
the width in bytes."""


class Prepared(NamedTuple):
    """See the module's text. Offsets of text and data count from `_text`.

    `rodata_end`: first byte after what the twin provides. `sites`: one of each kind of `RELOCATIONS`.
    `unmatched`: name patterns of the policy that this kernel has no function for. `fixups`: offsets of the
    instructions that the exception table covers, `warnings` of the `ud2` of every WARN, both ascending.
    `labels`: its static branches, `features` its branches on the CPU's features, `per_cpu` its references to
    per-CPU variables, `hashes` those in front of its functions, `constants` the immediates that must be the
    snapshot's, `restored` those that are the trusted kernel's own only (the addresses of its memory regions),
    as they were linked, `caches` the virtual addresses of its slab caches, `slab_fields` what is where in one
    (None if that cannot be told), `file_systems` the same for superblocks and mounts.
    """

    rodata_end: int
    sites: tuple[Sites, ...]
    trampolines: list[Trampoline]
    unmatched: list[str]
    fixups: array[int]
    warnings: array[int]
    labels: JumpLabels
    features: FeatureBranches
    per_cpu: PerCpuText
    hashes: CallHashes
    constants: RuntimeConstants
    caches: list[int]
    slab_fields: SlabFields | None
    file_systems: FileSystemForm
    proxy_task: ProxyTask
    restored: Words
