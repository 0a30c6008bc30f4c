"""`ss -i` and `ss -m`, ours and Debian's own, on the same image."""

from __future__ import annotations

from typing import Any

import pytest
from default_run import in_default_run
from generations import GENERATIONS, Lab
from native_runs import Run

from hybridbridge_vol import tools

GUESTS = in_default_run(GENERATIONS, "6.1 two CPUs")
Words = dict[tuple[str, str, str], tuple[str, str]]
_OTHERS = ("tos:", "class_id:", "cgroup:", "v6only:")
"""Words that are not of these options."""
_SINCE = ("rcv_wnd:", "rehash:")
"""Words that ss has since iproute2 6.6; Debian 12 has 6.1."""


def theirs(run: Run, image: str) -> Words:
    """What TCP keeps and the memory, by kind and both ends. A line of words follows each socket's."""
    done = run(image, "ss -tuanimoH")
    assert done.status == 0, done
    found: Words = {}
    key = ("", "", "")
    for line in done.stdout.decode().splitlines():
        if line[:1] in ("\t", " "):
            memory, _, rest = line.strip().removeprefix("skmem:(").partition(")")
            if memory:
                words = [word for word in rest.split() if not word.startswith(_OTHERS)]
                found[key] = " ".join(words), memory
        else:
            kind, _state, _received, _sent, local, peer = line.split()[:6]
            key = kind, local, peer
    return found


def ours(lab: Lab, image: str) -> Words:
    tool = tools.load("ss")
    chosen = {"tcp": True, "udp": True, "all": True, "info": True, "memory": True}
    options: dict[str, Any] = tool.defaults() | chosen
    names = [column.name for column in tool.columns_for(options)]
    rows = [dict(zip(names, row.cells, strict=True)) for row in tool.rows(lab.session(image), options)]
    return {
        (str(row["NETID"]), str(row["LOCAL"]), str(row["PEER"])): (
            " ".join(word for word in str(row["TCP"] or "").split() if not word.startswith(_SINCE)),
            str(row["MEMORY"]),
        )
        for row in rows
        if row["MEMORY"]
    }


@pytest.mark.parametrize("image", GUESTS)
def test_what_tcp_keeps_and_the_memory_of_sockets_are_in_the_words_of_ss(
    lab: Lab, run: Run, image: str
) -> None:
    expected = theirs(run, image)
    assert any("rtt:" in words for words, _memory in expected.values())
    assert ours(lab, image) == expected


@pytest.mark.parametrize("image", GUESTS)
def test_a_socket_of_ipv6_that_takes_nothing_of_ipv4_is_not_shown_as_one_that_does(
    lab: Lab, run: Run, image: str
) -> None:
    mine = ours(lab, image)
    only_six = {key for key in theirs(run, image) if "[::]:" in key[1]}
    assert only_six and {key for key in mine if "[::]:" in key[1]} == only_six
