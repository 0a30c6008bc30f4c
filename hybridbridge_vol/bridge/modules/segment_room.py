"""The room for the trusted segments of modules."""

from __future__ import annotations

ROOM = 32 << 20
"""Bytes that the trusted segments of the modules in use may have together; the largest ones have two
million."""
