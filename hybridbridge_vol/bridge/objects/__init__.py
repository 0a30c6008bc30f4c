"""The snapshot's tasks, namespaces and sockets, where no file of /proc leads to them."""
