"""Keys of connections that the kernel encrypts: those that the guest's process gave it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tls_guest
from default_run import in_default_run
from generations import Lab
from hunting import ask
from tls_guest import AES_GCM_128, AES_GCM_256, CHACHA20_POLY1305, given

from hybridbridge_vol.guest.session import Session, open_session

KERNELS = {"6.1 two CPUs": "6.1-cloud", "6.12": "6.12-cloud", "7.x": "7-cloud"}
"""By the sample that shares its kernel, which is trusted already. Debian's 5.10-cloud has no kernel TLS."""


@pytest.fixture(scope="module", params=in_default_run(KERNELS, "6.1 two CPUs"))
def session(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Session]:
    lab.sample(request.param)
    with open_session(tls_guest.image_of(KERNELS[request.param]), lab.store.root) as session:
        yield session


def test_keys_are_those_that_the_process_gave_and_shown_with_secrets_only(session: Session) -> None:
    rows = [row for row in ask(session, "keys", secrets=True) if row["TYPE"] == "kTLS"]
    shown = [(row["DESCRIPTION"].split(", socket")[0], row["PAYLOAD"]) for row in rows]
    small = f"key {given(AES_GCM_128, 12, 16)}; salt {given(AES_GCM_128, 28, 4)}"
    large = f"key {given(AES_GCM_256, 12, 32)}; salt {given(AES_GCM_256, 44, 4)}"
    large += f"; iv {given(AES_GCM_256, 4, 8)}; record 0"
    stream = f"key {given(CHACHA20_POLY1305, 16, 32)}; iv {given(CHACHA20_POLY1305, 4, 12)}; record 0"
    vector = int(given(AES_GCM_128, 4, 8), 16)  # counts records, too: two were sent, one was read
    assert shown == [
        ("TLS 1.2 AES-GCM-128, what is sent", f"{small}; iv {vector + 2:016x}; record 2"),
        ("TLS 1.2 AES-GCM-128, what is received", f"{small}; iv {vector + 1:016x}; record 1"),
        ("TLS 1.3 AES-GCM-256, what is sent", large), ("TLS 1.3 AES-GCM-256, what is received", large),
        ("TLS 1.3 CHACHA20-POLY1305, what is sent", stream),
        ("TLS 1.3 CHACHA20-POLY1305, what is received", stream),
    ]  # fmt: skip
    assert all("] of tls_client(" in row["DESCRIPTION"] for row in rows)
    named = [row for row in ask(session, "keys") if row["TYPE"] == "kTLS"]
    assert named == [{name: row[name] for name in row if name != "PAYLOAD"} for row in rows]
    assert session.rolled_back == 0


def test_a_guest_without_kernel_tls_has_no_such_row(lab: Lab) -> None:
    session = lab.session("6.1 two CPUs")
    assert not [row for row in ask(session, "keys") if row["TYPE"] == "kTLS"]
