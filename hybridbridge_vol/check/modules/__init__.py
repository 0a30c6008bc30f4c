"""Modules of the snapshot compared with the trusted package's files."""
