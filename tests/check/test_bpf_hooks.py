"""What BPF programs change in the kernel's code is reported as theirs, by the kernel's name for them."""

from __future__ import annotations

import re

import pytest
from filters import EACH
from generations import Lab

from hybridbridge_vol.check.integrity import differences

_OF_BPF = re.compile(r"bpf_(trampoline_[0-9_]+|dispatcher_xdp|prog_\w+)(\+0x[0-9a-f]+)?")


@pytest.mark.parametrize("image", EACH)
def test_attached_programs_are_named_and_nothing_else_is_said_to_differ(lab: Lab, image: str) -> None:
    found = list(differences(lab.session(image)))
    assert {one.what for one in found} <= {"bpf", "traced", "kprobe"}, found
    of_bpf = {one.symbol.partition("+")[0]: one.leads or "" for one in found if one.what == "bpf"}
    assert all(_OF_BPF.fullmatch(leads) for leads in of_bpf.values()), of_bpf
    assert "vfs_unlink" in of_bpf and any("bpf_dispatcher_xdp" in symbol for symbol in of_bpf)
