"""File formats of memory images: one file each."""
