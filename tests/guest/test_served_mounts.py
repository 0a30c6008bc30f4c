"""Files of a mount by NFS, in a guest that is server and client (support/guest/nfs.c)."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import nfs_guest
import pytest
from answers import ask
from generations import Lab

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable

INNER = b"inside\n"
"""What the guest has read of a file on the server."""


@pytest.fixture(scope="module")
def session(lab: Lab) -> Iterator[Session]:
    lab.sample("6.1 two CPUs")  # which shares its kernel, and so it is trusted
    with open_session(nfs_guest.image_of("6.1-cloud"), lab.store.root) as session:
        yield session


def test_what_the_client_has_cached_is_answered_although_it_has_expired(session: Session) -> None:
    """stat(2) would ask the server, and wait for it: as for the root of the mount, and a working folder."""
    root = session.files.attributes(nfs_guest.PLACE)
    assert stat.S_ISDIR(root.mode) and root.mode & stat.S_ISVTX and root.ino == 1
    folder = session.files.stat("/proc/1/cwd", follow=True)
    assert stat.S_ISDIR(folder.mode) and folder.dev == root.dev
    (descriptor,) = (
        fd for fd in session.files.listdir("/proc/1/fd")
        if session.files.readlink(f"/proc/1/fd/{fd}") == f"{nfs_guest.PLACE}/folder/inner"
    )  # fmt: skip
    seen = session.files.stat(f"/proc/1/fd/{descriptor}", follow=True)
    assert (seen.size, seen.ino, seen.dev) == (len(INNER), 4, root.dev)  # as the guest said on its console


def test_what_would_be_asked_of_the_server_says_so(session: Session) -> None:
    reason = f"in nfs4 at {nfs_guest.PLACE}: who serves it would have to be asked"
    for path in ("read", "unread", "folder", "folder/inner"):
        with pytest.raises(CallRolledBack) as raised:
            session.files.attributes(f"{nfs_guest.PLACE}/{path}")
        assert raised.value.reason == reason
    with pytest.raises(CallRolledBack) as raised:
        session.files.statfs(nfs_guest.PLACE)
    assert raised.value.reason == reason


def test_other_files_are_shown_beside_it(session: Session) -> None:
    rows = ask(session, "files")
    sizes = {row["PATH"]: row["SIZE"] for row in rows}
    assert sizes["/export/read"] == 10 and sizes["/export/folder/inner"] == len(INNER)
    (lack,) = (row for row in rows if isinstance(row["SIZE"], Unavailable))
    assert lack["PATH"] == nfs_guest.PLACE and "who serves it would have to be asked" in lack["SIZE"].reason
