"""A guest whose image holds two kernels, what is chosen of them, and `hb` on it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from ending_guest import Ending, image_of

from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.choose_kernel import Choice, choose_kernel
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.trust.stored_kernel import StoredKernel

KEXEC = Ending("6.1-cloud", "kexec", next_kernel="6.1-cloud")
PLANTED_AT = KEXEC.ram
"""Behind the guest's memory, so that nothing of it is lost."""
_MOST_GUESTS = 6


def after_kexec(store: Store) -> Path:
    """The folder of a guest after kexec, which has left enough of the first kernel to be found: where KASLR
    puts the second one is chance, and so the guest is made again where it lies upon the first."""
    for number in range(_MOST_GUESTS):
        folder = image_of(replace(KEXEC, append=f"guest={number}" if number else ""))
        if len(choice_of(folder / "dump.raw", store).kernels) == 2:
            return folder
    raise AssertionError(f"the second kernel lies upon the first in each of {_MOST_GUESTS} guests")


def choice_of(path: Path, store: Store, kernel_at: int | None = None) -> Choice:
    """What is chosen of an image's kernels."""
    return choice_and_kernel(path, store, kernel_at)[0]


def choice_and_kernel(path: Path, store: Store, kernel_at: int | None = None) -> tuple[Choice, StoredKernel]:
    """The choice, and the stored kernel of what it chose. They belong together: another process of the test
    run may trust a kernel at any time, and a later list of the store's kernels has another order."""
    kernels = store.kernels()
    with open_image(path) as image:
        choice = choose_kernel(image, kernels, kernel_at)
    assert choice is not None
    return choice, kernels[choice.chosen.index]


def hb(*arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and error of hb."""
    command = [sys.executable, "-m", "hybridbridge_vol", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr
