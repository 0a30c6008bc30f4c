"""For scripts and notebooks: a memory image whose tools are methods.

    import hybridbridge_vol, pandas

    with hybridbridge_vol.open("dump.raw") as snapshot:
        for row in snapshot.ps():
            print(row.pid, row.start, row.cmd)
        sockets = pandas.DataFrame(snapshot.netstat(tcp=True, listening=True))
        maps = snapshot.read_file("/proc/1/maps")

Every tool of `hb run` is a method with the tool's options as keyword arguments (see `help(snapshot.ps)`) and
returns a `table.Table`. The image's kernel must be trusted first, once: `hb trust add PACKAGE`.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hybridbridge_vol.api.methods import ToolMethods
from hybridbridge_vol.api.table import Table
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import as_python
from hybridbridge_vol.toolkit.reading import in_guest
from hybridbridge_vol.units import Progress
from hybridbridge_vol.workflow.describe_image import SnapshotInfo, facts_of

if TYPE_CHECKING:
    from hybridbridge_vol.native.capture import Completed

__all__ = ["Snapshot", "Table", "open_snapshot"]


class Snapshot(ToolMethods):
    """An opened image, see `open_snapshot`. Use it as a context manager, or call `close`; for one thread at a
    time."""

    def __init__(self, session: Session) -> None:
        self._session: Session | None = session

    def session(self) -> Session:
        """The session that answers the tools. ValueError once the snapshot is closed."""
        if self._session is None:
            raise ValueError("the image is closed: open it again")
        return self._session

    def read_file(self, path: str) -> bytes:
        """The whole content of a file under the guest's /proc or /sys. OSError with the guest's errno, or
        CallRolledBack."""
        return self.session().files.read(in_guest(path))

    def listdir(self, path: str) -> list[str]:
        """The names in a directory under the guest's /proc or /sys. Errors as for `read_file`."""
        return self.session().files.listdir(in_guest(path))

    def exec(
        self,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        tools: str | os.PathLike[str] | None = None,
    ) -> Completed:
        """Run an unmodified program of this machine, whose questions about the system the image answers (see
        docs/exec.md); its status, standard output and error. `tools`: a folder to look for programs first;
        `environment`: variables for it, which gets none of this process's.

        Raises errors.HostLacks if this machine cannot confine it, OptionError if there is no such program,
        TimedOut after `seconds`.
        """
        from hybridbridge_vol.native.capture import capture  # most scripts run no program
        from hybridbridge_vol.native.run import Options

        folder = None if tools is None else os.fspath(tools)
        return capture(self.session(), arguments, stdin, Options(folder, environment or {}, seconds))

    @property
    def path(self) -> str:
        """The path of the image file, as it was given."""
        return str(self.session().bridge.image.path)

    @property
    def kernel(self) -> str:
        """The release of its kernel."""
        return self.session().bridge.kernel.release

    @property
    def captured(self) -> datetime.datetime | None:
        """Capture time by the guest's clock; None if that clock shows no time. CallRolledBack."""
        moment = as_python(self.session().clocks.realtime(), "time")
        return moment if isinstance(moment, datetime.datetime) else None

    @property
    def facts(self) -> SnapshotInfo:
        """What `hb info` reports: format, kernel, virtual layout, capture time."""
        return facts_of(self.session())

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be known of every answer: several kernels in the image, a machine that did not run."""
        return self.session().notes

    def close(self) -> None:
        """Release the image and the emulator. Tables can still be used; closing twice is harmless."""
        if self._session is not None:
            session, self._session = self._session, None
            session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._session is None:
            return "<Snapshot, closed>"
        bridge = self._session.bridge
        return f"<Snapshot {str(bridge.image.path)!r} of {bridge.kernel.name}>"


def open_snapshot(
    image: str | os.PathLike[str],
    store: str | os.PathLike[str] | None = None,
    *,
    bridge: str = "auto",
    ns_of: int | None = None,
    kernel_at: int | None = None,
    progress: Progress | None = None,
) -> Snapshot:
    """`hybridbridge_vol.open`: open a memory image, find its kernel among the trusted ones and attach to it.

    `store`: directory of trusted kernels (None: the user's own). `bridge`: "auto" runs proven code and proves
    new code, "slow" proves every call, "fast" runs proven code only. `ns_of`: answer from inside the
    namespaces of this process. `kernel_at`: of several kernels in the image, the physical address of the one
    to answer for (None: the one that ran). `progress`: called with the fraction done (1 ends it) and what is
    being done.

    Raises errors.HybridBridgeError (ImageError, KernelNotStored, AttachError, StoreError, OptionError), each
    with one line that names the file and how to go on; ValueError for an unknown bridge.
    """
    modes = [mode.value for mode in Mode]
    if bridge not in modes:
        raise ValueError(f"bridge must be one of {', '.join(modes)}, not {bridge!r}")
    return Snapshot(
        open_session(
            os.fspath(image),
            Path(store) if store is not None else None,
            progress,
            bridge,
            ns_of,
            kernel_at=kernel_at,
        )
    )
