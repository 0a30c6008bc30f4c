"""What the guest's own configuration and records say, of files that memory may hold in part."""
