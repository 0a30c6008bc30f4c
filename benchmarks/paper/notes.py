"""What is said above the tables."""

from __future__ import annotations

CIRCUMSTANCES = """
Times are processor time on one core. Warm: medians of {runs} runs, each in sessions of its own, in which
the variants take {slices} turns, after a first call in the same session; repeated for {slice_ms:.0f} ms
where it is shorter. Cold: a session in which the tool is run once, opening and closing included, the start
of a process not. The machine is shared and noisy: the ratios count. The paper's figures are of Linux 2.6.37
in QEMU and KVM.
"""
WORK = """
What a tool does. A crossing into the snapshot: the trusted kernel's own text goes over into the twin, which
works on the snapshot's data. There the paper's FAST-BRIDGE had to leave its virtual machine, to exchange
page tables; here it is a jump. The emulator is left once for each system call, or for many that are made
together, and again where it hands over an exception, such as a page of the image that is needed for the
first time.
"""
SLOW = """
FAST-BRIDGE against SLOW-BRIDGE, which proves every call; FAST-BRIDGE has a full memo and refuses to fall
back. The paper's VMST tracks taint all the time, as SLOW-BRIDGE does.
"""
VIRTUOSO = "The tools that VIRTUOSO has too."
LIMIT = """
The limit: the trusted kernel alone, with its own /proc, without a snapshot and without redirection, asked
by the same code: the engine's own speed. It has fewer processes and no modules or sockets. So whole times
are compared only where the instructions differ by at most {alike:.0%}; the time inside the emulator per
guest instruction can be compared everywhere. Where a call has few instructions it says little: entering the
emulator costs something too. The rest of a call is Python. The last rows are work that is alike on any
kernel.
"""
MEMO = (
    "Cold, without any memo, and with a full one (on the last snapshot; medians over all orders, see below)."
)
TRAPS = """
Fall-backs: traps from FAST-BRIDGE to SLOW-BRIDGE from snapshot to snapshot, from an empty memo. Every tool
has a memo of its own; the traps of opening a session and mounting its /proc are added to these. The
snapshots are taken in {orders} orders, in which each of them is the first once and the last once: medians,
and the most that any order had on the last. Then the processor time, cold. As pictures:
[fall-backs](../docs/{traps}), [seconds](../docs/{seconds}).
"""
PROGRAMS = """
`hb exec`: unmodified programs. Intercepted calls are those that the supervisor answers; the program's own
time is in all times. The columns with ordinals are fall-backs from snapshot to snapshot, as in "The paper's
tables".
"""
NOTHING_ON_LAST = "On the last snapshot nothing trapped, in any order of the snapshots."
ON_LAST = "On the last snapshot of some order there trapped:"
