"""What the tables of `bpf` share: who holds objects, where programs are attached, what is remarkable."""
