"""What the kernel calls by pointers that can be registered or replaced while it runs."""
