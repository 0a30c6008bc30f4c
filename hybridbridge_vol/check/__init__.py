"""The snapshot's kernel and module code compared with the trusted package's."""
