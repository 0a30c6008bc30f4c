"""Every error the engine raises on purpose.

Each message is one line that names the file (or the call) and the way out. The command line and the plugins
translate these; anything else that escapes is a bug in the engine.
"""

from __future__ import annotations


class HybridBridgeError(Exception):
    """Base of all errors that are the input's or the environment's, not the engine's."""


class KernelFileError(HybridBridgeError):
    """A vmlinuz or package cannot be used as a kernel: not one, damaged, or of an unknown make."""


class BootError(HybridBridgeError):
    """A kernel was read but did not reach its init inside the emulator."""


class StoreError(HybridBridgeError):
    """The store of trusted kernels cannot be read or written, or an entry is corrupt or of another
    version."""


class ImageError(HybridBridgeError):
    """A file cannot be used as a memory image: empty, a directory, compressed, truncated beyond use."""


class KernelNotFound(ImageError):
    """The image holds no Linux kernel that could be found."""


class KernelNotStored(HybridBridgeError):
    """The image's kernel is known by its banner, but no stored trusted kernel fits.

    Attributes: `banner` is the kernel's own version line as found in the image.
    """

    def __init__(self, message: str, banner: str) -> None:
        super().__init__(message)
        self.banner = banner


class AttachError(HybridBridgeError):
    """The image's kernel was found but its address space cannot be rebuilt."""


class CallRolledBack(HybridBridgeError):
    """One call into the kernel did not end well and was thrown away; the session goes on.

    Attributes: `reason` is one short phrase ("page fault at ...", "budget exceeded").
    """

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(f"{call}: rolled back: {reason}")
        self.call = call
        self.reason = reason


class ParseError(HybridBridgeError):
    """Text that the guest's kernel gave is not of the form that kernel writes."""


class EngineMissing(HybridBridgeError):
    """The native part of SLOW-BRIDGE is not there or does not fit this package."""


class OptionError(HybridBridgeError):
    """An option's value names nothing that there is: no such state of sockets, no such process in the
    image."""


class MemoError(HybridBridgeError):
    """A memo file cannot be used: damaged, of another version, or of another kernel."""


class NotMemoized(HybridBridgeError):
    """FAST-BRIDGE met code without a memo and was told not to fall back.

    Attributes: `function` names the code that has no memo.
    """

    def __init__(self, message: str, function: str) -> None:
        super().__init__(message)
        self.function = function


class BatchError(HybridBridgeError):
    """A batch cannot begin: its folder cannot be written, another one is at work there, or a list cannot be
    read."""


class CasesError(HybridBridgeError):
    """A file of cases, or a recorded answer, cannot be used."""


class HybridBridgeWarning(UserWarning):
    """Something was not as it should be, but the work goes on without it."""


class RecoverError(HybridBridgeError):
    """Recovered files cannot be stored where they should be."""
