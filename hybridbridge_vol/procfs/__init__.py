"""Parsers of the text that the kernel writes to /proc and /sys."""
