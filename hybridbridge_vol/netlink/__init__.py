"""Requests and answers of the kernel's netlink protocols."""
