"""A single-threaded program of x86-64, in an emulator of its own: for machines that cannot confine one."""
