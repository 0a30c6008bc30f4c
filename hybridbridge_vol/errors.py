"""The errors that the engine raises on purpose.

Each message is one line that names the file (or the call) and how to go on. The command line and the plugins
show it as it is; any other exception that reaches them is a bug.
"""

from __future__ import annotations

import errno
import os

from hybridbridge_vol.units import U64


class HybridBridgeError(Exception):
    """Base of all errors that come from the input or the environment, not from a bug."""


class KernelFileError(HybridBridgeError):
    """A file cannot be used as a kernel: it is not a vmlinuz or a package of one, damaged, or of an unknown
    format."""


class ForeignKernel(KernelFileError):
    """A kernel that can never be used here: for another processor, or user-mode Linux."""


class NoKernelInPackage(KernelFileError):
    """A package has no kernel; it may have modules."""


class IncompleteKernelError(KernelFileError):
    """A kernel file is one, but needs another file beside it, which is missing or does not belong to it."""


class BootError(HybridBridgeError):
    """A kernel was read but did not reach the start of its init inside the emulator."""


class StoreError(HybridBridgeError):
    """The store of trusted kernels cannot be read or written, or an entry is damaged or of another
    version."""


class BootNeeded(StoreError):
    """A stored kernel must be booted once more, and this process cannot write into the store.

    `kernel`: its name there; its text must stay out of the virtual addresses from `start_vaddr` to
    `end_vaddr`, with page tables of so many `levels`.
    """

    def __init__(self, message: str, kernel: str, start_vaddr: int, end_vaddr: int, levels: int) -> None:
        super().__init__(message)
        self.kernel, self.start_vaddr, self.end_vaddr, self.levels = kernel, start_vaddr, end_vaddr, levels


class ImageError(HybridBridgeError):
    """A file cannot be used as a memory image: it is empty, a directory, compressed as a whole, or
    truncated."""


class KernelNotFound(ImageError):
    """No Linux kernel was found in the image.

    `banner`: the version line of a stored kernel, if it is in the image but its kernel is not where kernels
    load.
    """

    def __init__(self, message: str, banner: str | None = None) -> None:
        super().__init__(message)
        self.banner = banner


class UnusableKernel(KernelNotFound):
    """The image's kernel is known by its banner, and can never be used here: it is for another processor.

    `banner`: its version line.
    """


class KernelNotStored(HybridBridgeError):
    """The image's kernel is known by its banner, but no stored trusted kernel fits.

    `banner`: the kernel's version line (linux_banner, init/version.c), as found in the image.
    """

    def __init__(self, message: str, banner: str) -> None:
        super().__init__(message)
        self.banner = banner


class AttachError(HybridBridgeError):
    """The image's kernel was found, but its address space cannot be rebuilt."""


class CallRolledBack(HybridBridgeError):
    """One call into the kernel failed and was rolled back; the session can be used further.

    `call`: what was called; `reason`: a short phrase ("page fault at ...", "budget exceeded").
    """

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(f"{call}: rolled back: {reason}")
        self.call = call
        self.reason = reason


class LimitReached(HybridBridgeError):
    """A tool took all that it may take of this machine: processor time, memory, or rows."""


class ParseError(HybridBridgeError):
    """Text that the guest's kernel gave is not of the form that kernel writes."""


class EngineMissing(HybridBridgeError):
    """The native part of SLOW-BRIDGE is missing or does not fit this package."""


class OptionError(HybridBridgeError):
    """The value of an option names something that does not exist: an unknown socket state, a process that is
    not in the image."""


class MemoError(HybridBridgeError):
    """A memo file cannot be used: it is damaged, of another version, or of another kernel."""


class NotMemoized(HybridBridgeError):
    """FAST-BRIDGE met code without a memo while falling back was not allowed.

    `function`: the kernel function that has no memo.
    """

    def __init__(self, message: str, function: str) -> None:
        super().__init__(message)
        self.function = function


class BatchError(HybridBridgeError):
    """A batch cannot begin or go on: its directory cannot be written, another batch works there, a list
    cannot be read, or the Dask cluster is unusable."""


class CasesError(HybridBridgeError):
    """A file of cases, or a recorded answer, cannot be used."""


class HybridBridgeWarning(UserWarning):
    """Something was not as it should be, but the work goes on without it."""


class RecoverError(HybridBridgeError):
    """Recovered files cannot be stored where they should be."""


class HostLacks(HybridBridgeError):
    """This machine lacks what running a program on an image needs; the message says how to get it."""


class TimedOut(HybridBridgeError):
    """A program that ran on an image did not end in the time that it was given."""


class FetchError(HybridBridgeError):
    """A package cannot be had from this machine's package client; the message says which, why, and what to do
    instead."""


_MAX_ERRNO = 4095
"""include/linux/err.h: a negative answer of the kernel below -4095 is no errno."""


def kernel_error(answer: int, source: str | None = None) -> OSError:
    """The error that a negative answer of the guest's kernel about `source` is. EIO, with the number, where
    it is no errno: code that works on damaged memory may answer anything."""
    number, text = -answer, ""
    if number > _MAX_ERRNO:
        number, text = errno.EIO, f"the kernel's code answers {answer}, which is no error of its"
    text = text or os.strerror(number)
    return OSError(number, text) if source is None else OSError(number, text, source)


def pointer_error(answer: int, source: str | None = None) -> OSError | None:
    """The error about `source` that a pointer which the guest's kernel answered, 64 bits with or without a
    sign, stands for; None if it is an address (include/linux/err.h, IS_ERR)."""
    signed = (answer & U64) - (1 << 64)
    return kernel_error(signed, source) if signed >= -_MAX_ERRNO else None


def error_text(error: BaseException, image: str | None) -> str:
    """An error that ended the work, in one line that names the image (unless the error names it itself)."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(text.split())
    return text if image is None or image in text else f"{image}: {text}"
