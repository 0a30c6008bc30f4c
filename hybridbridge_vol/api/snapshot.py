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
import errno
import io
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from hybridbridge_vol.api.guest_file import GuestFile
from hybridbridge_vol.api.methods import ToolMethods
from hybridbridge_vol.api.table import Table
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import as_python
from hybridbridge_vol.toolkit.reading import in_guest
from hybridbridge_vol.units import Progress
from hybridbridge_vol.workflow.describe_image import SnapshotInfo, facts_of

if TYPE_CHECKING:
    from hybridbridge_vol.native.capture import Completed

_BUFFER_SIZE = 1 << 16

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
        """The whole content of a file of the guest. OSError with the guest's errno, or CallRolledBack.
        IncompleteFile if memory does not hold all of it, MissingRecords if the kernel cannot write all of a
        list of /proc: these are OSErrors that have what there is."""
        return self.session().files.read(in_guest(path))

    def open(self, path: str) -> io.BufferedReader:
        """A file of the guest, open for reading: OSError with EIO where memory does not hold what is read.
        Errors as for `read_file`."""
        files, path = self.session().files, in_guest(path)
        seen = files.attributes(path, follow=True)
        if stat.S_ISDIR(seen.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        sized = seen.size and files.has_size(path)
        return io.BufferedReader(GuestFile(files, path, seen.size if sized else None), _BUFFER_SIZE)

    def listdir(self, path: str) -> list[str]:
        """The names in a directory of the guest. IncompleteDirectory (an OSError that has what there is) if
        memory does not hold all; other errors as for `read_file`."""
        return self.session().files.listdir(in_guest(path))

    def stat(self, path: str, *, follow_symlinks: bool = True) -> FileAttributes:
        """The attributes of a file of the guest, by statx(2). Errors as for `read_file`."""
        return self.session().files.attributes(in_guest(path), follow_symlinks)

    def readlink(self, path: str) -> str:
        """Where a symbolic link of the guest leads. Errors as for `read_file`."""
        return self.session().files.readlink(in_guest(path))

    def listxattr(self, path: str) -> list[str]:
        """The names of a file's extended attributes. Errors as for `read_file`."""
        return list(self.session().files.xattrs(in_guest(path)))

    def getxattr(self, path: str, name: str) -> bytes:
        """An extended attribute of a file; OSError with ENODATA if it has none of that name. Other errors as
        for `read_file`."""
        try:
            return self.session().files.xattrs(in_guest(path))[name]
        except KeyError:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA), path) from None

    def exec(
        self,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        tools: str | os.PathLike[str] | None = None,
        user_mode: Literal["native", "emulated"] = "native",
    ) -> Completed:
        """Run an unmodified program of this machine, whose questions about the system the image answers (see
        docs/exec.md); its status, standard output and error. `tools`: a folder to look for programs first;
        `environment`: variables for it, which gets none of this process's. `user_mode` "emulated" runs a
        single-threaded program in an emulator, where this machine cannot confine it.

        Raises errors.HostLacks if this machine cannot confine it, OptionError if there is no such program,
        TimedOut after `seconds`.
        """
        from hybridbridge_vol.native.capture import capture  # most scripts run no program
        from hybridbridge_vol.native.run import Options

        folder = None if tools is None else os.fspath(tools)
        options = Options(folder, environment or {}, seconds, user_mode=user_mode)
        return capture(self.session(), arguments, stdin, options)

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
    root_of: int | None = None,
    kernel_at: int | None = None,
    progress: Progress | None = None,
    max_seconds: float | None = None,
    max_memory: int | None = None,
) -> Snapshot:
    """`hybridbridge_vol.open`: open a memory image, find its kernel among the trusted ones and attach to it.

    `store`: directory of trusted kernels (None: the user's own). `bridge`: "auto" runs proven code and proves
    new code, "slow" proves every call, "fast" runs proven code only. `ns_of`: answer from inside the
    namespaces of this process. `root_of`: files outside of /proc and /sys as seen from the root directory of
    this process (after chroot or pivot_root), without its namespaces. `kernel_at`: of several kernels in the
    image, the physical address of the one to answer for (None: the one that ran). `progress`: called with the
    fraction done (1 ends it) and what is being done. `max_seconds` of processor time,
    `max_memory` bytes: where a tool ends with the rows that it has (None: by its `seconds` and `memory`).

    Raises errors.HybridBridgeError (ImageError, KernelNotStored, AttachError, StoreError, OptionError), each
    with one line that names the file and how to go on; ValueError for an unknown bridge.
    """
    modes = [mode.value for mode in Mode]
    if bridge not in modes:
        raise ValueError(f"bridge must be one of {', '.join(modes)}, not {bridge!r}")
    session = open_session(
        os.fspath(image),
        Path(store) if store is not None else None,
        progress,
        bridge,
        ns_of,
        kernel_at=kernel_at,
        root_of=root_of,
    )
    session.allowance.seconds, session.allowance.memory = max_seconds, max_memory
    return Snapshot(session)
