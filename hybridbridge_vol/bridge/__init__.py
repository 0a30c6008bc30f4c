"""The bridge: the snapshot's address space, the twin text, the redirection policy, sessions."""
