"""A session: the kernel of a memory snapshot, answering system calls.

`Session` makes the parts and owns them; each part does one thing and owns its state. From the bottom up:

* primitives: `caller` makes calls and rolls back those that fail, `proxy` gives them names, buffers and
  errors, `answer_labels` keeps where answers came from;
* facilities made of them, as `guest.kernel` describes them: `files`, `inodes`, `system`, `clocks`, `tasks`,
  `cpus`, `threads`, `addresses`, `devices`, `routes`, `sockets`, `workers`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hybridbridge_vol.allowance import SLOWER_UNDER_TAINT, Allowance
from hybridbridge_vol.bridge.attach import attach
from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.objects.namespaces import enter
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.bridge.run.statistics import Statistics
from hybridbridge_vol.errors import AttachError, CallRolledBack, HybridBridgeWarning, OptionError
from hybridbridge_vol.guest.answer_labels import AnswerLabels
from hybridbridge_vol.guest.facilities import Facilities
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.choose_kernel import NoKernelThere, NoSoundKernel, choose_kernel
from hybridbridge_vol.snapshot.machine_state import NORMAL, MachineState
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import Progress, in_this_process_only


def _ignore(_fraction: float, _text: str) -> None: ...


class Session(Facilities):
    """See `open_session`. Implements `guest.kernel.GuestKernel`.

    It owns the bridge and the image once it is made: `close` lets both go, and keeps what was proven.
    """

    def __init__(
        self,
        bridge: Bridge,
        mode: Mode = Mode.AUTO,
        ns_of: int | None = None,
        progress: Progress | None = None,
        processors: int | None = None,
        notes: tuple[str, ...] = (),
        root_of: int | None = None,
    ) -> None:
        self.bridge = bridge
        self.caller = Caller(bridge, mode)
        bridge.allowance.slower = SLOWER_UNDER_TAINT if mode is Mode.SLOW else 1
        self.answer_labels = AnswerLabels(self.caller)
        calls = ProxyCalls(self.caller, self.answer_labels)
        super().__init__(calls, f"/proc/{'self' if root_of is None else root_of}", processors)
        caution = (bridge.image.caution,) if bridge.image.caution else ()
        self.notes = (*notes, *_of_state(bridge.state), *caution, *bridge.notes)
        """What should be known of every answer about this image, one line each."""
        self.progress = in_this_process_only(progress or _ignore)
        try:
            if ns_of is not None:
                enter(self.caller, ns_of)
            self.caller.mark()
            if root_of is not None:
                self._check_root(root_of)
        finally:
            bridge.confirm()

    def _check_root(self, pid: int) -> None:
        """OptionError if a process has no root directory that can be reached."""
        try:
            self.files.attributes("/")
        except FileNotFoundError:
            raise OptionError(f"--root-of {pid}: no such process in the image, or it has ended") from None
        except (OSError, CallRolledBack) as error:
            reason = error.reason if isinstance(error, CallRolledBack) else error.strerror
            raise OptionError(f"--root-of {pid}: its root directory cannot be reached: {reason}") from None

    def close(self) -> None:
        """Keep what was proven, and let everything go."""
        self.caller.hybrid.close()
        self.bridge.close()
        self.bridge.image.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def keep_learned(self) -> None:
        """Put what was proven so far into the store, as `close` does: it stays if this process is ended."""
        self.caller.hybrid.keep_learned()

    @property
    def allowance(self) -> Allowance:
        """What the answer that is being made may take of this machine."""
        return self.bridge.allowance

    @property
    def calls(self) -> int:
        """How many calls were made into the kernel."""
        return self.caller.hybrid.statistics.total.calls

    @property
    def rolled_back(self) -> int:
        """How many of them were thrown away."""
        return self.caller.hybrid.statistics.total.rolled_back

    @property
    def statistics(self) -> Statistics:
        """What was done so far."""
        return self.caller.hybrid.finish_statistics()


def _of_state(state: MachineState) -> tuple[str, ...]:
    return () if state == NORMAL else (f"the state of the machine: {state}",)


def open_session(
    path: str | Path,
    store: Path | None = None,
    progress: Progress | None = None,
    mode: str = Mode.AUTO,
    ns_of: int | None = None,
    processors: int | None = None,
    kernel_at: int | None = None,
    root_of: int | None = None,
) -> Session:
    """Open a memory image, find its kernel among the trusted ones and attach to it; `mode` is one of
    `bridge.run.fast_with_fallback.Mode`, `processors` how many may work at once (by default all that this
    process may run on). Of several kernels in the image the one that ran is taken, or the one whose text is
    at the physical address `kernel_at`.

    The session sees what the process `ns_of` (by default the first) sees from inside its namespaces:
    processes, network, names, users, control groups, and as /proc/self itself. Files outside of /proc and
    /sys are those below the root directory of the process `root_of` (by default of the same one), as /proc
    numbers it: it may be in a chroot(2). Its notes are given as HybridBridgeWarning, too. Raises ImageError,
    KernelNotStored, AttachError, StoreError, BootError, and OptionError if there is no such process: all
    HybridBridgeError.
    """
    image = open_image(path, progress)
    try:
        session = open_attached(image, Store(store), progress, mode, ns_of, processors, kernel_at, root_of)
    except BaseException:
        image.close()
        raise
    for note in session.notes:
        warnings.warn(f"{path}: {note}", HybridBridgeWarning, stacklevel=2)
    return session


def _of_others(banners: Sequence[str]) -> tuple[str, ...]:
    if not banners:
        return ("another kernel ran when the image was taken, of which nothing was found in it",)
    text = (
        "another kernel ran when the image was taken, and is not in the store; a version line in the image: "
    )
    return (f"{text}{banners[0]!r}",)


def open_attached(
    image: PhysicalImage,
    store: Store,
    progress: Progress | None = None,
    mode: str = Mode.AUTO,
    ns_of: int | None = None,
    processors: int | None = None,
    kernel_at: int | None = None,
    root_of: int | None = None,
) -> Session:
    """The same on an opened image. The session owns the image from then on; where there is none because of an
    error, it stays the caller's to close."""
    kernels = store.kernels()
    try:
        choice = choose_kernel(image, kernels, kernel_at)
    except NoSoundKernel as error:
        from hybridbridge_vol.guest.no_kernel import explain_unsound  # 5 ms, and most images have one

        raise explain_unsound(image, store, error, progress) from None
    except NoKernelThere as error:
        from hybridbridge_vol.guest.no_kernel import explain_not_there  # as above

        raise explain_not_there(image, store, error) from None
    except AttachError as error:
        raise AttachError(f"{image.path}: {error}") from None
    if choice is None:
        from hybridbridge_vol.guest.no_kernel import explain_unknown  # as above

        raise explain_unknown(image, store, progress)
    notes = choice.notes
    if choice.another_ran and len(choice.kernels) == 1:
        from hybridbridge_vol.guest.no_kernel import unknown_kernels  # as above

        notes += _of_others(unknown_kernels(image, (kernel.banner for kernel in kernels), progress))
    bridge = attach(image, kernels[choice.chosen.index], choice.chosen.found, progress)
    try:
        return Session(bridge, Mode(mode), ns_of, progress, processors, notes, root_of)
    except BaseException:
        bridge.close()
        raise
