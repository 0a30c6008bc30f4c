"""What the kernel's bpf(2) says of programs, maps, links and types, and the code of programs as text."""
