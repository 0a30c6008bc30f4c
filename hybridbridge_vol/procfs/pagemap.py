"""Bits of an entry of /proc/PID/pagemap (fs/proc/task_mmu.c, `pagemap_read`)."""

from __future__ import annotations

PRESENT, SWAPPED, OF_FILE, FRAME = 1 << 63, 1 << 62, 1 << 61, (1 << 55) - 1
