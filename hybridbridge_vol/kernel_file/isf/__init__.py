"""Volatility's symbol tables (ISF), written from a kernel's BTF and kallsyms."""
