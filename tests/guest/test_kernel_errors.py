"""What the guest's kernel answers instead of a result."""

from __future__ import annotations

import errno
import struct

import pytest

from hybridbridge_vol.errors import kernel_error, pointer_error
from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.guest.magic_links import error_of
from hybridbridge_vol.netlink.messages import NLMSG_ERROR, is_last


def test_an_errno_is_its_error() -> None:
    error = kernel_error(-errno.ENOENT, "/x")
    assert isinstance(error, FileNotFoundError)
    assert (error.errno, error.filename) == (errno.ENOENT, "/x")
    assert kernel_error(-errno.EACCES).filename is None


@pytest.mark.parametrize("answer", [-4096, -(1 << 31), -(1 << 40), -(1 << 63)])
def test_any_other_number_is_an_error_too(answer: int) -> None:
    """Of code that works on damaged memory; `OSError` itself takes numbers of 31 bits only."""
    for error in (kernel_error(answer, "/x"), error_of("/x", -answer)):
        assert (error.errno, error.filename) == (errno.EIO, "/x")
        assert str(answer) in str(error.strerror)


@pytest.mark.parametrize("answer", [-errno.ESRCH, (1 << 64) - errno.ESRCH])
def test_a_pointer_may_be_an_error(answer: int) -> None:
    error = pointer_error(answer, "/x")
    assert isinstance(error, ProcessLookupError)
    assert error.filename == "/x"


@pytest.mark.parametrize("answer", [0, 0xFFFF_8880_0000_1000, (1 << 64) - 4096, -4096])
def test_any_other_pointer_is_an_address(answer: int) -> None:
    assert pointer_error(answer) is None


def test_an_answer_of_netlink_may_have_any_number() -> None:
    message = struct.pack("<IHHIIi", 20, NLMSG_ERROR, 0, 0, 0, -(1 << 31))
    with pytest.raises(OSError, match="2147483648"):
        is_last(message)


@pytest.mark.parametrize(
    ("register", "answer"), [(0xFFFFFFEA, -22), (-22, -22), (0, 0), (0xDEAD00000001, 1), ((1 << 64) - 1, -1)]
)
def test_an_int_is_the_lower_half_of_a_register(register: int, answer: int) -> None:
    assert signed32(register) == answer
