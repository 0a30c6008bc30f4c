"""Whose rights a process has, and whether they can have come to it by the kernel's own means."""
