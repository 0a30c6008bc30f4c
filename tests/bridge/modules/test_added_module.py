"""Modules that a guest had not loaded: their code answers as if it had."""

from __future__ import annotations

from pathlib import Path

import pytest
from generations import Lab
from guest_modules import loaded
from store_copies import link

from hybridbridge_vol.bridge.modules.added_room import DATA_ROOM
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.netlink import sock_diag
from hybridbridge_vol.netlink.messages import messages, parsed
from hybridbridge_vol.netlink.unix_diag import parse_unix_diag
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.network.unix_sockets import unix_sockets
from hybridbridge_vol.trust.modules import ARCHIVE

_NO_CODE = 1 << 40


def test_unix_diag_lists_the_sockets_of_a_guest_that_had_not_loaded_it(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    assert "unix_diag" not in dict(loaded(session))
    data = session.sockets.dump(sock_diag.UNIX)
    answers = [found for found, _source in parsed("unix", (20,), data, parse_unix_diag)]
    lines = lab.sample(generation).truth.file("/proc/net/unix").decode().splitlines()[1:]
    said = {int(line.split()[6]): line.split()[4] for line in lines if line.split()[6] != "0"}
    assert {one.inode: f"{one.type:04X}" for one in answers} == said  # type: ignore[union-attr]
    names = [line.split()[7] for line in lines if len(line.split()) > 7 and line.split()[6] != "0"]
    assert sorted(one.shown_name.decode() for one in answers if one.name) == sorted(names)  # type: ignore[union-attr]


def test_an_added_module_lies_where_the_snapshot_has_nothing(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    session.sockets.dump(sock_diag.UNIX)
    segments = [one for one in session.bridge.space.modules.segments if one.module.name == "unix_diag"]
    assert [one.executable for one in segments] == [True, False, False]
    assert [one.data_paddr is not None for one in segments] == [False, False, True]
    memory, area = session.bridge.virtual_memory, session.bridge.layout.modules
    for segment in segments:
        assert segment.vaddrs.start in area and segment.vaddrs[-1] in area
        assert memory.translate(segment.vaddrs.start) is None
    # the file, and what the analysis reads of the snapshot, are as they were
    assert not session.bridge.space.modules.is_listed("unix_diag")
    assert session.bridge.space.modules.room.memory.size == DATA_ROOM


def test_it_is_still_there_after_a_call_was_rolled_back(lab: Lab) -> None:
    session = lab.session("6.1 two CPUs")
    before = [message.body for message in messages(session.sockets.dump(sock_diag.UNIX))]
    with pytest.raises(CallRolledBack):
        session.caller.call(_NO_CODE, label="nothing")
    after = [message.body for message in messages(session.sockets.dump(sock_diag.UNIX))]
    without_cookies = slice(0, 8)
    assert [body[without_cookies] for body in after] == [body[without_cookies] for body in before]
    assert len(after) > 1


def test_without_the_module_s_file_the_text_is_read_and_counted(lab: Lab, tmp_path: Path) -> None:
    sample, kernel = lab.sample("6.12"), lab.kernel("6.12")
    store = tmp_path / "store"
    link(kernel, store, ARCHIVE)
    with open_session(sample.dump, store) as session:
        with pytest.raises(FileNotFoundError, match="no module unix_diag"):
            session.sockets.dump(sock_diag.UNIX)
        found = list(unix_sockets(session))
    assert not any(isinstance(one, Unavailable) for one in found)
    assert len(found) == len(sample.truth.file("/proc/net/unix").splitlines()) - 1


def test_a_socket_names_the_bytes_of_the_image_that_its_name_came_from(lab: Lab) -> None:
    sample = lab.sample("6.12")
    with open_session(sample.dump, lab.store.root, mode=Mode.SLOW) as session:
        session.answer_labels.start()
        found = [one for one in unix_sockets(session) if not isinstance(one, Unavailable) and one.name]
        provenance = str(session.answer_labels.of(found[0].sources))
        assert session.statistics.unattributed == {}
    offsets = [int(word.partition("+")[0], 16) for word in provenance.split() if word.startswith("0x")]
    image, name = sample.dump.read_bytes(), found[0].name.encode()
    assert any(name in image[max(offset - 128, 0) : offset + 128] for offset in offsets), provenance
