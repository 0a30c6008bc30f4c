"""Keys that the kernel keeps, and data that nobody has read, on guests that were attacked in user space."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from default_run import in_default_run
from disks import DISKS
from generations import Lab
from hunting import GENERATIONS, ask, hunted

from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from samples.make import Sample
from samples.plan import LOCKED

DISK_SCRIPT = Path(__file__).parents[2] / "samples" / "guest" / "disks.sh"
DISK_GUESTS = in_default_run(sorted(DISKS), "6.1 disks")


@pytest.fixture(scope="module", params=GENERATIONS)
def generation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sample(generation: str, lab: Lab) -> Sample:
    return hunted(lab, generation)


@pytest.fixture(scope="module")
def session(sample: Sample, lab: Lab) -> Iterator[Session]:
    with open_session(sample.dump, lab.store.root) as session:
        yield session


def test_keys_are_what_the_guest_read_and_those_of_other_users(session: Session, sample: Sample) -> None:
    rows = ask(session, "keys")
    said = {line.split()[0]: line for line in sample.truth.file("/proc/keys").decode().splitlines()}
    by_serial = {row["SERIAL"]: row for row in rows}
    assert len(by_serial) == len(rows) and said.keys() < by_serial.keys()
    for serial, line in said.items():
        row = by_serial[serial]
        assert [row["FLAGS"], f"{row['PERM']:08x}", str(row["UID"])] == [line.split()[i] for i in (1, 4, 5)]
        assert row["TYPE"][:9] == line.split()[7] and row["DESCRIPTION"] in line
    others = {row["DESCRIPTION"]: row for row in rows if row["SERIAL"] not in said}
    assert others["other:token"]["UID"] == 1000 and others["other:token"]["TYPE"] == "user"
    rings = {row["DESCRIPTION"]: re.sub(r"\(.*\)", "", row["KEYRINGS"] or "").strip() for row in rows}
    assert rings["spy:token"] == rings["spy:logon"] == "spies"
    assert (rings["spy:user"], rings["other:token"]) == ("_uid.0", "_uid.1000")
    assert all("PAYLOAD" not in row for row in rows)


def test_what_keys_hold_is_shown_with_secrets_only(session: Session) -> None:
    held = {row["DESCRIPTION"]: row["PAYLOAD"] for row in ask(session, "keys", secrets=True)}
    assert held["spy:token"] == "token-of-the-spy"
    assert held["spy:logon"] == "logon-secret"  # no program may read it
    assert held["spy:user"] == "payload of the user ring"
    assert held["spy:timed"] == "for a day"
    assert held["spy:revoked"] is None
    assert held["other:token"] == "token of user 1000"
    session.files.read("/etc/passwd")  # the proxy task is itself again
    assert session.rolled_back == 0


@pytest.mark.parametrize("name", DISK_GUESTS)
def test_the_master_key_of_an_encrypted_disk_is_the_one_that_the_guest_gave(lab: Lab, name: str) -> None:
    key = re.search(r"^KEY=([0-9a-f]+)$", DISK_SCRIPT.read_text(), re.MULTILINE)
    assert key
    session = lab.session(name)
    (row,) = (row for row in ask(session, "keys", secrets=True) if row["TYPE"] == "dm-crypt")
    assert row["DESCRIPTION"].startswith("/dev/mapper/secret: aes-xts-plain64 on ")
    assert row["PAYLOAD"] == key[1]
    assert key[1] not in str(ask(session, "keys"))


@pytest.mark.parametrize("name", DISK_GUESTS)
def test_the_master_keys_of_encrypted_directories_are_those_that_were_added(lab: Lab, name: str) -> None:
    """samples/guest/encrypt.c: the kernel keeps a key of policies of version 1, and wipes one of version 2.
    What names them is what the kernel told the program that added them."""
    session = lab.session(name)
    descriptor, identifier = lab.sample(name).truth.command(LOCKED).split()
    rows = [row for row in ask(session, "keys", secrets=True) if row["TYPE"] in ("fscrypt", "._fscrypt")]
    first, second = sorted(rows, key=lambda row: identifier in row["DESCRIPTION"])
    assert descriptor in first["DESCRIPTION"] and identifier in second["DESCRIPTION"]
    assert first["PAYLOAD"] == bytes(range(1, 65)).hex()
    assert second["PAYLOAD"].reason == (
        "the kernel keeps what it derives from this key, and wiped the key itself"
    )
    if first["TYPE"] == "fscrypt":
        version_1, version_2 = (
            f"ext4 on dm-0, policies of version {version}, {word} {name}"
            for version, word, name in ((1, "descriptor", descriptor), (2, "identifier", identifier))
        )
        assert (first["DESCRIPTION"], second["DESCRIPTION"]) == (version_1, version_2)
    else:
        assert first["KEYRINGS"].startswith("fscrypt-dm-0 ")
    assert first["PAYLOAD"] not in str(ask(session, "keys"))


def test_data_that_nobody_has_read_is_shown_and_stays_where_it_is(session: Session) -> None:
    """samples/guest/unread.h: each of them is sent once, and nothing else is."""
    rows = [row for row in ask(session, "queues") if row["COMM"] in ("unread", None)]
    shown = [(row["KIND"], row["NUMBER"], row["TYPE"], row["DATA"]) for row in rows]
    assert sorted(shown, key=str) == sorted([
        ("pipe", 1, None, "left in a pipe, in two parts"), ("pipe", 1, None, "left in a fifo"),
        ("socket", 1, None, "left in a stream"), ("socket", 1, None, "first datagram"),
        ("socket", 2, None, "second datagram"), ("socket", 3, None, "with a descriptor"),
        ("socket", 1, None, "left in tcp"), ("socket", 1, None, "left in udp"),
        ("terminal", 1, None, "shown to nobody\r\n"), ("terminal", 1, None, "typed ahead\n"),
        ("message", 1, 7, "a System V message"), ("message", 2, 8, "another one"),
        ("mqueue", 1, 9, "an urgent one"), ("mqueue", 2, 3, "a POSIX message"),
    ], key=str)  # fmt: skip
    assert all(row["SIZE"] == len(row["DATA"]) for row in rows)
    names = {row["DATA"]: row["NAME"] for row in rows}
    assert names["left in a fifo"] == "/run/fifo" and names["shown to nobody\r\n"] == "/dev/ptmx"
    again = [row for row in ask(session, "queues") if row["COMM"] in ("unread", None)]
    assert again == rows


def test_clean_guests_have_no_unreadable_queue(lab: Lab) -> None:
    rows = ask(lab.session("6.1 two CPUs"), "queues")
    assert not [row for row in rows if isinstance(row["DATA"], Unavailable)]
