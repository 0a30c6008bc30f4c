"""/proc/PID/fdinfo."""

from __future__ import annotations

from hybridbridge_vol.procfs.fd import parse_fdinfo


def test_the_descriptors_that_an_epoll_watches_rise_as_in_lsof() -> None:
    lines = [b"pos:\t0", b"flags:\t02000002", *(b"tfd: %8d events: 19" % number for number in (25, 4, 130))]
    assert parse_fdinfo(b"\n".join(lines)).detail == "4,25,130"
