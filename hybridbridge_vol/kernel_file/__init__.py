"""Kernel packages and files: vmlinuz, modules, kallsyms, BTF."""
