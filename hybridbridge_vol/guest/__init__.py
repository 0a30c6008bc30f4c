"""The guest kernel's own interface from Python: system calls, /proc and /sys, and the tools built on them."""
