"""What a distribution's kernel is: packages, the bzImage container, relocations, kallsyms."""
