"""Unmodified programs of the examiner's machine, whose questions about the system an image answers."""
