"""Which transfer rule an x86-64 instruction has.

`_RULES` maps a mnemonic to the function that derives its rule; `_PREFIXES` does so for the families that are
named by a prefix (`jCC`, `setCC`, `cmovCC`). Some mnemonics name two different instructions: a function that
is given the one it does not handle returns None. What no function knows gets the most careful rule, all
outputs from all inputs; it is right for the instructions of `GENERIC`, and the others are counted as unknown.
What a rule does to labels: native/apply_rules.h.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from capstone import x86_const as x86

from hybridbridge_vol.bridge.taint import instruction_sets as sets
from hybridbridge_vol.bridge.taint.operands import Decoded
from hybridbridge_vol.bridge.taint.registers import (
    GENERAL_SIZE,
    NO_REGISTER,
    RAX,
    RBP,
    RDI,
    RDX,
    RSI,
    RSP,
    SLOTS,
    general_number,
    register_mask,
)
from hybridbridge_vol.bridge.taint.rules import (
    NO_BITS,
    NO_OPERAND,
    Bits,
    Operand,
    OperandKind,
    Rule,
    RuleKind,
)
from hybridbridge_vol.units import U64

_TWO_BYTE_OPCODE = 0x0F
"""First byte of vector instructions; of string instructions of the same name (`movsd`) there is one byte."""
_CONDITION = Operand(OperandKind.CONSTANT, 0, 1)
"""The source of what is made of the flags alone."""
_STACK_WORD = Operand(OperandKind.MEMORY, 0, 8)
_NO_EFFECT = Rule(RuleKind.NONE)


Derive = Callable[[Decoded], Rule | None]


def rule_of(decoded: Decoded, unknown: Counter[str]) -> Rule:
    """The rule of an instruction, without what depends on its address alone (see `operands.Addressing`).

    One without a rule of its own is counted in `unknown` by its mnemonic.
    """
    name = decoded.name
    derive = _RULES.get(name)
    if derive is None:
        derive = next((found for prefix, found in _PREFIXES if name.startswith(prefix)), None)
    rule = None if derive is None else derive(decoded)
    if rule is not None:
        return rule
    if name not in sets.GENERIC:
        unknown[name] += 1
    return _generic(decoded)


# --- control flow -----------------------------------------------------------------------------------------


def _no_effect(_decoded: Decoded) -> Rule:
    return _NO_EFFECT


def _jump(decoded: Decoded) -> Rule:
    if decoded.is_immediate(0):
        return _NO_EFFECT
    return Rule(RuleKind.JUMP, source=decoded.operands[0])


def _conditional_jump(decoded: Decoded) -> Rule | None:
    return _NO_EFFECT if decoded.is_immediate(0) else None


def _call(decoded: Decoded) -> Rule:
    source = NO_OPERAND if decoded.is_immediate(0) else decoded.operands[0]
    return Rule(RuleKind.JUMP, Bits.PUSHES, source=source)


# --- copies -----------------------------------------------------------------------------------------------


def _move(decoded: Decoded) -> Rule | None:
    if len(decoded.operands) != 2:
        return None
    target, source = decoded.operands
    if source.kind == OperandKind.CONSTANT:
        return Rule(RuleKind.CLEAR, NO_BITS, target)
    if source.size > target.size or source.kind == OperandKind.SNAPSHOT_ADDRESS:
        source = source.sized(target.size)
    bits = Bits.SIGN_EXTENDS if decoded.name in sets.SIGN_EXTENDING_MOVES else NO_BITS
    return Rule(RuleKind.COPY, bits, target, source)


def _push(decoded: Decoded) -> Rule:
    operand = decoded.operands[0]
    return Rule(
        RuleKind.COPY, Bits.MEMORY | Bits.PUSHES, _STACK_WORD, operand.sized(8), base=_stack_base(operand)
    )


def _pop(decoded: Decoded) -> Rule:
    operand = decoded.operands[0]
    return Rule(RuleKind.COPY, Bits.MEMORY | Bits.POPS, operand, _STACK_WORD, base=_stack_base(operand))


def _stack_base(operand: Operand) -> int:
    """The register of the address that is checked: the operand's own, where that is memory too."""
    return NO_REGISTER if operand.kind == OperandKind.MEMORY else RSP


def _leave(_decoded: Decoded) -> Rule:
    return Rule(RuleKind.COPY, Bits.MEMORY, _general(RBP, 8), _STACK_WORD, base=RBP)


def _conditional_move(decoded: Decoded) -> Rule:
    target, source = decoded.operands
    return Rule(RuleKind.COPY, Bits.KEEPS_TARGET, target, source)


def _sign_extension(decoded: Decoded) -> Rule:
    small, large = sets.SIGN_EXTENSIONS[decoded.name]
    return Rule(RuleKind.COPY, Bits.SIGN_EXTENDS, _general(RAX, large), _general(RAX, small))


_EXCHANGE_KINDS = {"xchg": RuleKind.SWAP, "xadd": RuleKind.ADDSWAP, "cmpxchg": RuleKind.COMPARESWAP}


def _exchange(decoded: Decoded) -> Rule:
    target, source = decoded.operands
    if source.kind == OperandKind.MEMORY:
        target, source = source, target
    bits = Bits.MEMORY if target.kind == OperandKind.MEMORY else NO_BITS
    if decoded.name == "cmpxchg":
        bits |= Bits.KEEPS_TARGET
    return Rule(_EXCHANGE_KINDS[decoded.name], bits, target, source)


# --- string instructions ----------------------------------------------------------------------------------


def _string_copy(decoded: Decoded) -> Rule | None:
    """One element of `movs` (RSI to RDI), `stos` (to RDI) or `lods` (from RSI)."""
    if _has_two_byte_opcode(decoded):
        return None
    operation, size = decoded.name[:-1], sets.ELEMENT_SIZES[decoded.name[-1]]
    memory, accumulator = Operand(OperandKind.MEMORY, 0, size), _general(RAX, size)
    if operation == "movs":
        return Rule(RuleKind.STRING, Bits.MEMORY, memory, memory, base=RSI, index=RDI)
    if operation == "stos":
        return Rule(RuleKind.STRING, Bits.MEMORY, memory, accumulator, base=RDI)
    return Rule(RuleKind.STRING, Bits.MEMORY, accumulator, memory, base=RSI)


def _compare_strings(decoded: Decoded) -> Rule | None:
    if _has_two_byte_opcode(decoded):
        return None
    bits = Bits.MEMORY | Bits.WRITES_FLAGS | Bits.TWO_STRINGS
    return Rule(RuleKind.GENERIC, bits, base=RSI, index=RDI)


def _scan_string(decoded: Decoded) -> Rule | None:
    if _has_two_byte_opcode(decoded):
        return None
    return Rule(RuleKind.GENERIC, Bits.MEMORY | Bits.WRITES_FLAGS, base=RDI, reads=1 << RAX)


def _has_two_byte_opcode(decoded: Decoded) -> bool:
    return bool(decoded.insn.opcode[0] == _TWO_BYTE_OPCODE)


# --- arithmetic -------------------------------------------------------------------------------------------


def _union(bits: Bits, target: Operand, sources: list[Operand]) -> Rule:
    """The target is made of the first two sources; a third is a number (`shld`, `imul`)."""
    source, second, *_ = [*sources, NO_OPERAND, NO_OPERAND]
    return Rule(RuleKind.ALU, bits, target, source, second)


def _lea(decoded: Decoded) -> Rule:
    """The sum of registers and a number; memory is not touched."""
    memory = decoded.raw_operands[1].mem
    numbers = (general_number(memory.base), general_number(memory.index))
    terms = [_general(number, 8) for number in numbers if number != NO_REGISTER]
    bits = Bits.STATIC if decoded.targets.is_static(decoded.insn, memory) else NO_BITS
    if not terms and not bits:
        return Rule(RuleKind.CLEAR, NO_BITS, decoded.operands[0])
    return _union(bits, decoded.operands[0], terms)


def _bitwise(decoded: Decoded) -> Rule:
    target, second = decoded.operands
    if decoded.name == "xor" and target == second:
        return Rule(RuleKind.CLEAR, Bits.WRITES_FLAGS, target)
    mask = U64
    if decoded.name in ("and", "test") and decoded.is_immediate(1):
        mask = _nonzero_bytes(decoded.raw_operands[1].imm & U64)
    result = NO_OPERAND if decoded.name == "test" else target
    return Rule(RuleKind.BITS, Bits.WRITES_FLAGS, result, target, second.sized(target.size), mask=mask)


def _nonzero_bytes(value: int) -> int:
    """0xff in each byte of a 64-bit number that is not 0: what `and` with it may leave."""
    return int.from_bytes(bytes(0xFF if byte else 0 for byte in value.to_bytes(8, "little")), "little")


def _comparison(decoded: Decoded) -> Rule:
    return Rule(RuleKind.ALU, Bits.WRITES_FLAGS, NO_OPERAND, decoded.operands[0], decoded.operands[1])


def _subtraction(decoded: Decoded) -> Rule:
    """`sub` and `sbb`; of a register with itself, the result is 0 or the carry."""
    operands = decoded.operands
    if len(operands) != 2 or operands[0] != operands[1]:
        return _arithmetic(decoded)
    if decoded.name == "sub":
        return Rule(RuleKind.CLEAR, Bits.WRITES_FLAGS, operands[0])
    return Rule(RuleKind.ALU, Bits.READS_FLAGS | Bits.WRITES_FLAGS, operands[0], _CONDITION)


def _multiplication(decoded: Decoded) -> Rule | None:
    """`imul` with two or three operands; with one it multiplies the accumulator."""
    return _arithmetic(decoded) if len(decoded.operands) > 1 else None


def _arithmetic(decoded: Decoded) -> Rule:
    name = decoded.name
    bits = Bits.WRITES_FLAGS if name in sets.ARITHMETIC_WITH_FLAGS else NO_BITS
    if name in sets.FLAG_READERS:
        bits |= Bits.READS_FLAGS
    if name == "sub":
        bits |= Bits.SUBTRACTS
    target, *sources = decoded.operands
    is_replaced = name in sets.REPLACED_TARGETS or name == "imul" and len(sources) > 1
    if not (is_replaced and sources):
        sources = [target, *sources]
    return _union(bits, target, sources)


def _clear_vector(decoded: Decoded) -> Rule | None:
    """A vector register combined with itself; with others there is no rule but the generic one."""
    if decoded.operands[-1] != decoded.operands[-2]:
        return None
    return Rule(RuleKind.CLEAR, NO_BITS, decoded.operands[0])


def _set_by_condition(decoded: Decoded) -> Rule | None:
    """`setCC`; `setssbsy` has no operand."""
    if not decoded.operands:
        return None
    return Rule(RuleKind.ALU, Bits.READS_FLAGS, decoded.operands[0], _CONDITION)


def _sign_copy(decoded: Decoded) -> Rule:
    size = sets.SIGN_COPIES[decoded.name]
    return Rule(RuleKind.ALU, NO_BITS, _general(RDX, size), _general(RAX, size))


# --- all other instructions -------------------------------------------------------------------------------


def _generic(decoded: Decoded) -> Rule:
    """All outputs from all inputs, but for the stack pointer and for registers that only make an address."""
    read, written = decoded.insn.regs_access()
    memory = [operand.mem for operand in decoded.raw_operands if operand.type == x86.X86_OP_MEM]
    explicit = {operand.reg for operand in decoded.raw_operands if operand.type == x86.X86_OP_REG}
    addressing = {register for one in memory for register in (one.base, one.index)} - explicit
    reads = 0
    if decoded.name not in sets.OUTPUTS_OF_NOTHING:
        reads = register_mask(register for register in read if register not in addressing)
    reads |= register_mask(filter(_is_partial, written))  # the rest of the register keeps its label
    bits = Bits.MEMORY if memory else NO_BITS
    if x86.X86_REG_EFLAGS in read:
        bits |= Bits.READS_FLAGS
    if x86.X86_REG_EFLAGS in written:
        bits |= Bits.WRITES_FLAGS
    followed = ~(1 << RSP)
    return Rule(RuleKind.GENERIC, bits, reads=reads & followed, writes=register_mask(written) & followed)


def _is_partial(register: int) -> bool:
    """Whether a write to capstone's register leaves a part of the whole one as it was."""
    slot = SLOTS.get(register)
    return slot is not None and slot.size < 4


def _general(number: int, size: int) -> Operand:
    return Operand(OperandKind.REGISTER, number * GENERAL_SIZE, size)


# --- the table --------------------------------------------------------------------------------------------


def _strings(*operations: str) -> list[str]:
    return [operation + letter for operation in operations for letter in sets.ELEMENT_SIZES]


_RULES: dict[str, Derive] = {
    **dict.fromkeys(sets.ARITHMETIC_WITH_FLAGS | sets.ARITHMETIC_WITHOUT_FLAGS, _arithmetic),
    **dict.fromkeys(sets.NO_EFFECT, _no_effect),
    **dict.fromkeys(sets.MOVES, _move),
    **dict.fromkeys(sets.BITWISE, _bitwise),
    **dict.fromkeys(sets.COMPARISONS, _comparison),
    **dict.fromkeys(sets.SELF_CLEARING_VECTORS, _clear_vector),
    **dict.fromkeys(sets.EXCHANGES, _exchange),
    **dict.fromkeys(sets.SIGN_EXTENSIONS, _sign_extension),
    **dict.fromkeys(sets.SIGN_COPIES, _sign_copy),
    **dict.fromkeys(_strings(*sets.STRING_MOVES), _string_copy),
    **dict.fromkeys(_strings("cmps"), _compare_strings),
    **dict.fromkeys(_strings("scas"), _scan_string),
    "call": _call,
    "imul": _multiplication,
    "jmp": _jump,
    "lea": _lea,
    "leave": _leave,
    "pop": _pop,
    "push": _push,
    "sbb": _subtraction,
    "sub": _subtraction,
}
_PREFIXES: tuple[tuple[str, Derive], ...] = (
    ("j", _conditional_jump),
    ("set", _set_by_condition),
    ("cmov", _conditional_move),
)
