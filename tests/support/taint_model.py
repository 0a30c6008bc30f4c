"""A slow and simple model of data labels: a label is a set of origins, kept for each byte of registers and
memory.

It reads assembly as text and knows `mov`, `add`, `xor`, `push` and `pop`, nothing of the engine's rules.
"""

from __future__ import annotations

import re

Label = frozenset[int]
NOTHING: Label = frozenset()

_NUMBERS = {"a": 0, "c": 1, "d": 2, "b": 3}
_SIZES = {"byte": 1, "word": 2, "dword": 4, "qword": 8}
_REGISTER = re.compile(r"(r|e|)([abcd])x|([abcd])([lh])")
_MEMORY = re.compile(r"(\w+) ptr \[(\w+)(?: \+ (\w+))?\]")


class Model:
    """`values` are the registers that addresses are made of."""

    def __init__(self, values: dict[str, int]) -> None:
        self.values = dict(values)
        self.memory: dict[int, Label] = {}
        self.registers = [NOTHING] * 32

    def step(self, text: str) -> None:
        """Execute one instruction's effect on labels."""
        name, _, rest = text.partition(" ")
        operands = rest.split(", ")
        if name == "push":
            self.values["rsp"] -= 8
            self._set("qword ptr [rsp]", self._get(operands[0], 8))
        elif name == "pop":
            self._set(operands[0], self._get("qword ptr [rsp]", 8))
            self.values["rsp"] += 8
        else:
            self._set(operands[0], self._result(name, *operands))

    def _result(self, name: str, target: str, source: str) -> list[Label]:
        old = self._get(target, 0)
        new = self._get(source, len(old))
        if name == "mov":
            return new
        if name == "xor":
            return (
                [NOTHING] * len(old) if target == source else [a | b for a, b in zip(old, new, strict=True)]
            )
        assert name == "add"
        return [NOTHING.union(*old, *new)] * len(old)

    def _get(self, operand: str, size: int) -> list[Label]:
        if register := _REGISTER.fullmatch(operand):
            first, size = self._place(register)
            return self.registers[first : first + size]
        if memory := _MEMORY.fullmatch(operand):
            start, size = self._address(memory)
            return [self.memory.get(place, NOTHING) for place in range(start, start + size)]
        return [NOTHING] * size  # a constant

    def _set(self, operand: str, labels: list[Label]) -> None:
        if register := _REGISTER.fullmatch(operand):
            first, size = self._place(register)
            self.registers[first : first + size] = labels
            if size == 4:  # the upper half becomes zero
                self.registers[first + 4 : first + 8] = [NOTHING] * 4
        elif memory := _MEMORY.fullmatch(operand):
            self.memory.update(zip(range(self._address(memory)[0], 1 << 64), labels, strict=False))

    def _place(self, match: re.Match[str]) -> tuple[int, int]:
        wide, letter, small, half = match.groups()
        if small:
            return 8 * _NUMBERS[small] + (half == "h"), 1
        return 8 * _NUMBERS[letter], {"r": 8, "e": 4, "": 2}[wide]

    def _address(self, match: re.Match[str]) -> tuple[int, int]:
        size, base, displacement = match.groups()
        return self.values[base] + int(displacement or "0", 0), _SIZES[size]
