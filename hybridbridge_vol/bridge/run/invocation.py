"""One call of a kernel function, ready to be run."""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.machine.machine import Machine, Stop


class Invocation(NamedTuple):
    """A function's virtual address and its arguments (System V ABI), the stack pointer before the call, the
    return address at which the run ends, and the processor time that it may take."""

    function_vaddr: int
    arguments: tuple[int, ...]
    stack_vaddr: int
    return_vaddr: int
    seconds: float

    def run(self, machine: Machine, slower: float = 1) -> Stop:
        """Make the call; on a machine that is `slower` by a factor it may take so much longer."""
        return machine.call(
            self.function_vaddr,
            self.arguments,
            self.stack_vaddr,
            self.return_vaddr,
            self.seconds * slower,
        )
