"""The emulated machine: host memory, registers, paging, exceptions and the few devices Linux needs."""
