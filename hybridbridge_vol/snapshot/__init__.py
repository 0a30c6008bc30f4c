"""The kernel inside a memory image: where it lies, which one it is, its virtual layout."""
