"""Trusted kernels: booting them inside the emulator, storing the booted state, finding it again."""
