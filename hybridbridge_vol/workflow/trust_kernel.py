"""Trust a kernel: boot it, store it with its modules, prepare the bridge for it.

Its code is proven as it is needed, by the first questions. Who wants most of it proven before has it trained:
beside the trusted kernel a second one is booted, at the addresses where Linux would have put it, and
discarded again. Its memory is a snapshot on which the tools are run.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from functools import partial
from itertools import takewhile
from pathlib import Path
from threading import Thread
from typing import Self

from hybridbridge_vol.bridge.attach import attach
from hybridbridge_vol.bridge.text.prepare import prepare
from hybridbridge_vol.check.modules import module_store
from hybridbridge_vol.errors import (
    BootError,
    HybridBridgeError,
    IncompleteKernelError,
    KernelFileError,
    NoKernelInPackage,
)
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.kernel_file import packages
from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.find_kernel import find_kernel
from hybridbridge_vol.trust import modules
from hybridbridge_vol.trust.boot import BootedKernel, boot
from hybridbridge_vol.trust.files import write_sparse
from hybridbridge_vol.trust.linked_kernel import linked_kernel
from hybridbridge_vol.trust.placement import LINUX_LAYOUT
from hybridbridge_vol.trust.store import Entry, Store
from hybridbridge_vol.trust.stored_kernel import StoredKernel
from hybridbridge_vol.units import Progress, part_of
from hybridbridge_vol.workflow.link_modules import link_beside
from hybridbridge_vol.workflow.train import run_tools


def enroll(
    store: Store,
    path: Path,
    progress: Progress | None = None,
    training: bool = False,
    symbols: Path | None = None,
) -> Entry:
    """Boot the kernel in the file `path` (a vmlinuz or a package), store it, prepare the bridge for it and,
    with `training`, train on it. `symbols` is a System.map or vmlinux with what its own table lacks. A
    package that holds modules only is added to its kernel. Raises as `Store.add`."""

    part = partial(part_of, progress)
    second = _SecondBoot() if training else None
    with _KeptModules(store, path) as kept:
        try:
            kernel = store.add(path, part(0.0, 0.6), beside=second, symbols=symbols)
        except KeyError as error:
            raise _lacks(path, error) from None
        except IncompleteKernelError:
            raise
        except KernelFileError as error:
            if not (isinstance(error, NoKernelInPackage) or modules.is_module(path)):
                raise
            return _enroll_modules(store, path, error)
        try:
            for boot in kernel.boots():
                prepare(kernel, boot, part(0.6, 0.7))
        except KeyError as error:
            raise _lacks(path, error) from None
        linked_kernel(kernel)  # now, while the kernel is unpacked in memory
        kept.give(kernel)
    if second is not None:
        booted = second.finish()
        if booted is not None:
            _train(kernel, booted, part(0.7, 1.0))
    return store.entry(kernel)


def _lacks(path: Path, error: KeyError) -> BootError:
    return BootError(
        f"{path}: this kernel has no symbol {error}; it is too old, or built without what is needed, and "
        "cannot be bridged"
    )


def _enroll_modules(store: Store, path: Path, error: KernelFileError) -> Entry:
    """Add the modules of a package that has no kernel to their kernel, which must be stored already; `error`
    is raised if the package has none."""
    release = None
    with contextlib.suppress(KernelFileError, OSError):
        release = modules.release(path)
    if not release:
        raise error
    fitting = [kernel for kernel in store.kernels() if kernel.release == release]
    if not fitting:
        raise KernelFileError(
            f"{path}: modules of kernel {release}, which is not stored; add that kernel first"
        )
    for kernel in fitting:
        modules.keep(kernel.folder, modules.module_files(path))
        module_store.link_all(kernel.folder)
    return store.entry(fitting[0])


class _KeptModules(Thread):
    """Packs and links the modules of a kernel's package in a thread of its own, because that needs no kernel
    yet, and moves them to the kernel when that is stored."""

    def __init__(self, store: Store, path: Path) -> None:
        super().__init__(name="modules", daemon=True)
        self._folder = store.temporary_folder()
        self._path = path
        self._error: HybridBridgeError | None = None
        self._cancelled = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._cancelled = True
        self.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self) -> None:
        """The thread."""
        try:
            with open(self._path, "rb") as stream:
                if not packages.is_package(stream):
                    return
            modules.keep(
                self._folder, takewhile(lambda _module: not self._cancelled, modules.module_files(self._path))
            )
            link_beside(self._folder, lambda: self._cancelled)
        except HybridBridgeError as error:
            self._error = error
        except OSError:  # the kernel cannot be read either, and that is reported
            pass

    def give(self, kernel: StoredKernel) -> None:
        """Wait until the modules are packed and move them to their kernel, unless it has some already. Raises
        what went wrong in the thread."""
        if modules.names(kernel.folder):
            return
        self.join()
        if self._error is not None:
            raise self._error
        modules.move(self._folder, kernel.folder)
        modules.move_file(self._folder, kernel.folder, module_store.ARCHIVE)


class _SecondBoot:
    """Boots a kernel at its link-time addresses, as Linux does without KASLR, in a thread of its own."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._booted: BootedKernel | None = None

    def __call__(self, kernel: KernelImage) -> None:
        """Start."""
        self._thread = Thread(target=self._run, args=(kernel,), name="second boot", daemon=True)
        self._thread.start()

    def _run(self, kernel: KernelImage) -> None:
        try:
            self._booted = boot(kernel, LINUX_LAYOUT)
        except BootError:  # the first boot reports it; without training the first questions are only slower
            self._booted = None

    def finish(self) -> BootedKernel | None:
        """Wait for it. None if it was not started, because the kernel was stored already, or failed."""
        if self._thread is not None:
            self._thread.join()
        return self._booted


def _train(kernel: StoredKernel, booted: BootedKernel, progress: Progress | None) -> None:
    """Run each tool on the memory of `booted`. An error ends the training; the kernel stays trusted."""
    try:
        with tempfile.TemporaryDirectory(dir=kernel.folder, prefix=".training-") as folder:
            path = Path(folder) / "memory"
            write_sparse(path, booted.ram.view)
            image = open_image(path)
            hit = find_kernel(image, [kernel])
            if hit is None:
                image.close()
                return
            with Session(attach(image, kernel, hit[1])) as session:
                run_tools(session, progress)
    except (HybridBridgeError, OSError):
        return
