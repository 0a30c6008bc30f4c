"""Working out what the bridge needs of one booted kernel (see prepared.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hybridbridge_vol.bridge.text import kernel_tables
from hybridbridge_vol.bridge.text.call_hashes import read_call_hashes
from hybridbridge_vol.bridge.text.cpu_features import read_feature_branches
from hybridbridge_vol.bridge.text.file_system_form import read_form
from hybridbridge_vol.bridge.text.policy import load_policy, resolve
from hybridbridge_vol.bridge.text.prepared import RELOCATIONS, Prepared
from hybridbridge_vol.bridge.text.proxy_task import find_proxy_task
from hybridbridge_vol.bridge.text.runtime_constants import read_runtime_constants
from hybridbridge_vol.bridge.text.slab_fields import read_slab_fields
from hybridbridge_vol.bridge.text.twin_text import Patch, Sites, changed_words, relocation_sites
from hybridbridge_vol.errors import BootError
from hybridbridge_vol.kernel_file.region_constants import Bases
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.trust.placement import Layout
from hybridbridge_vol.trust.stored_kernel import Boot, StoredKernel

if TYPE_CHECKING:
    from hybridbridge_vol.kernel_file.kernel import KernelImage

_NEEDED = ("init_pid_ns", "init_user_ns")
"""Symbols without which no snapshot of the kernel can be attached to."""


def derive(kernel: StoredKernel, boot: Boot) -> Prepared:
    """Work everything out (about a second). Raises as `prepare.prepare`."""
    image, symbols, text = kernel.kernel_image(), kernel.symbols, kernel.text_link_vaddr
    for name in _NEEDED:
        symbols.address(name)
    delta = boot.layout.kernel_delta
    ram = boot.map_memory()
    booted = ram.view[kernel.text_paddr : kernel.text_paddr + kernel.size]
    rodata_end = symbols.address("__end_rodata") - text
    flat = image.flat()
    sites = tuple(
        Sites(
            relocation_sites(
                booted, flat, getattr(image.relocations, name), text, rodata_end, step * delta, size
            ),
            step,
            size,
        )
        for name, (step, size) in RELOCATIONS.items()
    )
    policy = load_policy()
    functions = list(kernel_tables.text_functions(kernel))
    resolution = resolve(policy, functions)
    text_end = symbols.address("_etext") - text
    machine = Machine(boot.layout.levels)
    machine.place(0, ram)
    machine.load_state(boot.state)
    try:
        proxy_task = find_proxy_task(machine, kernel, boot.layout, booted)
        form = read_form(machine, kernel, boot.layout)
        caches = sorted(kernel_tables.slab_caches(machine, kernel, delta))
    except (UnmappedVirtual, LookupError) as error:
        raise BootError(f"{kernel.name}: the booted kernel is not laid out as expected: {error}") from None
    finally:
        machine.release()
    return Prepared(
        rodata_end=rodata_end,
        sites=sites,
        trampolines=resolution.trampolines,
        unmatched=resolution.unmatched,
        fixups=kernel_tables.exception_sites(kernel, booted),
        warnings=kernel_tables.warning_sites(kernel, booted),
        labels=kernel_tables.jump_labels(kernel, booted, delta),
        features=read_feature_branches(flat, text, text_end),
        per_cpu=kernel_tables.per_cpu_text(kernel, booted, sites[0], delta),
        hashes=read_call_hashes(flat, booted, (offset for offset, *_ in functions), text_end),
        constants=read_runtime_constants(flat, symbols, text, policy.snapshot_constants),
        restored=changed_words(booted, flat, _region_constants(image, boot.layout)),
        caches=caches,
        slab_fields=read_slab_fields(booted, symbols, text),
        file_systems=form,
        proxy_task=proxy_task,
    )


def _region_constants(image: KernelImage, layout: Layout) -> Iterator[Patch]:
    """Where the boot has the addresses of its own memory regions in its code, and which."""
    constants = image.region_constants
    if constants is not None:
        yield from constants.moved(Bases(layout.page_offset_base, layout.vmalloc_base, layout.vmemmap_base))
