"""Which of an image's kernels to answer for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hybridbridge_vol.errors import AttachError, OptionError
from hybridbridge_vol.snapshot.evidence import Evidence, Image, KnownKernel, weigh
from hybridbridge_vol.snapshot.find_kernel import Found, find_kernels

MAX_KERNELS = 1 << 10
"""Kernels that are weighed; an image with more was made to hold them."""
MOST_NAMED = 8
"""Kernels that a message names."""


class NoSoundKernel(AttachError):
    """Kernels were found, but none that ran when the image was taken."""


class NoKernelThere(OptionError):
    """No stored kernel is at the physical address that was asked for, `kernel_at`."""

    def __init__(self, text: str, kernel_at: int) -> None:
        super().__init__(text)
        self.kernel_at = kernel_at


@dataclass(frozen=True)
class Weighed:
    """A kernel of the image: its number among the known ones, its release, where it was found, and what
    speaks for and against it."""

    index: int
    release: str
    found: Found
    evidence: Evidence

    def __str__(self) -> str:
        return f"{self.found.text_paddr:#x} ({self.release}: {self.evidence})"


class Choice(NamedTuple):
    """The kernel to answer for; `kernels` are all that were found, and `notes` say what should be known of
    the choice in every answer."""

    chosen: Weighed
    kernels: tuple[Weighed, ...]
    notes: tuple[str, ...] = ()

    @property
    def another_ran(self) -> bool:
        """Whether another kernel ran when the image was taken: this one was replaced, or no CPU runs it. One
        that kdump's capture kernel has saved is what its image is about."""
        evidence = self.chosen.evidence
        return evidence.state.left_by_kexec or evidence.on_cpus == 0 or not evidence.is_sound


def choose_kernel(image: Image, known: Sequence[KnownKernel], kernel_at: int | None = None) -> Choice | None:
    """The kernel that ran when the image was taken, or the one whose text is at the physical address
    `kernel_at`; None if the image holds none of the `known`.

    NoSoundKernel if none of those found is sound, AttachError if two are and nothing tells them apart,
    NoKernelThere if there is none at `kernel_at`; none of them names the image."""
    kernels: list[Weighed] = []
    for index, found in find_kernels(image, known):
        if len(kernels) == MAX_KERNELS:
            break
        kernel = known[index]
        kernels.append(Weighed(index, kernel.release, found, weigh(image, kernel, found)))
    if kernel_at is not None:
        return _asked_for(kernels, kernel_at)
    return the_one_that_ran(kernels) if kernels else None


def the_one_that_ran(kernels: Sequence[Weighed]) -> Choice:
    """The choice among the kernels of an image, at least one. NoSoundKernel, AttachError."""
    sound = [kernel for kernel in kernels if kernel.evidence.is_sound]
    if not sound:
        raise NoSoundKernel(_none_is_sound(kernels))
    chosen = max(sound, key=_standing)
    if [_standing(kernel) for kernel in sound].count(_standing(chosen)) > 1:
        raise AttachError(_no_difference(sound))
    return Choice(chosen, tuple(kernels), _notes(chosen, kernels, _why(chosen, sound)))


def _standing(kernel: Weighed) -> tuple[int, bool, bool, int]:
    """Orders sound kernels: by the CPUs that run them, then those that no other kernel has replaced, then
    those that have tasks, then by the clock."""
    evidence = kernel.evidence
    return evidence.on_cpus or 0, not evidence.state.has_ended, evidence.has_tasks, evidence.time or 0


def _why(chosen: Weighed, sound: Sequence[Weighed]) -> str:
    others = [_standing(kernel) for kernel in sound if kernel is not chosen]
    if not others:
        return "the only sound one"
    cpus, current, has_tasks, _time = _standing(chosen)
    if all(cpus > other[0] for other in others):
        return "the image's CPUs run it"
    if current and not any(other[1] for other in others):
        return "no other has replaced it"
    if has_tasks and not any(other[2] for other in others):
        return "page tables of tasks map it, and no other"
    return "its clock is the latest"


def _notes(chosen: Weighed, kernels: Sequence[Weighed], why: str) -> tuple[str, ...]:
    if len(kernels) == 1:
        return ()
    others = _named([kernel for kernel in kernels if kernel is not chosen])
    text = f"the image holds {len(kernels)} kernels; this is {chosen}: {why}. Besides: {others}. "
    return (text + "--kernel-at PADDR chooses",)


def _named(kernels: Sequence[Weighed]) -> str:
    named = [str(kernel) for kernel in kernels[:MOST_NAMED]]
    more = len(kernels) - MOST_NAMED
    return ", ".join([*named, f"{more:,} more"] if more > 0 else named)


def _asked_for(kernels: Sequence[Weighed], kernel_at: int) -> Choice:
    chosen = next((kernel for kernel in kernels if kernel.found.text_paddr == kernel_at), None)
    if chosen is None:
        places = _named(kernels) or "none that is stored"
        text = f"no kernel at physical address {kernel_at:#x}; the image holds: {places}"
        raise NoKernelThere(text, kernel_at)
    notes = _notes(chosen, kernels, "chosen by --kernel-at")
    if chosen.evidence.flaws:
        notes += (f"the kernel is not sound: {'; '.join(chosen.evidence.flaws)}",)
    return Choice(chosen, tuple(kernels), notes)


def _no_difference(sound: Sequence[Weighed]) -> str:
    return (
        f"it holds {len(sound)} kernels, and nothing tells which of them ran: {_named(sound)}; "
        "choose with --kernel-at PADDR"
    )


def _none_is_sound(kernels: Sequence[Weighed]) -> str:
    return (
        f"no kernel in it is sound: {_named(kernels)}; the image is damaged, or what ran was another kernel. "
        "--kernel-at PADDR attaches all the same"
    )
