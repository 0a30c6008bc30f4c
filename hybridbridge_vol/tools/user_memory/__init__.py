"""The memory of processes: what of it is code, where it comes from, what it holds."""
