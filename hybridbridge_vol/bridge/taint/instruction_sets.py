"""Families of x86-64 mnemonics that share a transfer rule. See `instruction_rules` for the rules."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


NO_EFFECT = _names("""
    nop endbr64 data16 pause hlt wait fwait serialize verw
    lfence mfence sfence prefetchw prefetcht0 prefetcht1 prefetcht2 prefetchnta
    clflush clflushopt invlpg wbinvd
    cli sti cld std clc stc cmc clac stac clts swapgs
    int int3 ud1 ud2
    ret retf iret iretq sysret sysretq
    lgdt lidt lldt ltr
    wrmsr xsetbv out outsb outsw outsd
    not
""")
"""They move no label: no data flows, or (`not`) each byte keeps its label."""

MOVES = _names("""
    mov movabs movzx movsx movsxd movnti
    movd movq movaps movups movapd movupd movdqa movdqu movntdq
""")
"""Two operands, of which the second is copied byte by byte."""

SIGN_EXTENDING_MOVES = _names("movsx movsxd")

ARITHMETIC_WITH_FLAGS = _names("""
    add sub adc sbb inc dec neg imul
    shl shr sar sal rol ror rcl rcr shld shrd
    bts btr btc
""")
"""The result and the flags are made of all bytes of all operands."""

ARITHMETIC_WITHOUT_FLAGS = _names("""
    bsf bsr tzcnt lzcnt popcnt bswap crc32 rorx sarx shlx shrx
""")
"""The same without flags: what these leave in them is not followed."""

REPLACED_TARGETS = ARITHMETIC_WITHOUT_FLAGS - {"crc32"}
"""The target is written and is not an input, where there is a source operand."""

COMPARISONS = _names("cmp bt")
"""Two inputs, and flags alone as the result."""

BITWISE = _names("and or xor test")
"""Each byte of the result is made of the two bytes of its position."""

FLAG_READERS = _names("adc sbb rcl rcr")

SELF_CLEARING_VECTORS = _names("pxor xorps xorpd vpxor")
"""Zero where both sources are the same register."""

EXCHANGES = _names("xchg xadd cmpxchg")

SIGN_EXTENSIONS = {"cbw": (1, 2), "cwde": (2, 4), "cdqe": (4, 8)}
"""Of the accumulator, from and to so many bytes."""

SIGN_COPIES = {"cwd": 2, "cdq": 4, "cqo": 8}
"""The accumulator's sign, in so many bytes of RDX."""

ELEMENT_SIZES = {"b": 1, "w": 2, "d": 4, "q": 8}
"""Bytes of a string instruction's element, by the last letter of its name."""
STRING_MOVES = _names("movs stos lods")
"""String instructions, without that letter, which copy one element."""

GENERIC = _names("""
    mul imul div idiv cmpxchg8b cmpxchg16b pushfq popfq lahf sahf
    rdtsc rdtscp cpuid rdmsr rdpmc in xgetbv sgdt sidt str
""")
"""The generic rule is right for these (for `imul` with one operand): they are not counted as unknown."""

OUTPUTS_OF_NOTHING = _names("rdtsc rdtscp cpuid rdmsr rdpmc in xgetbv")
"""What these read comes from the processor, not from their operands."""
