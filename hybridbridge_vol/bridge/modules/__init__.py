"""Code of the snapshot's loadable modules, relocated from the trusted package's files."""
