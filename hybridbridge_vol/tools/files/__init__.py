"""What tools share that report about files."""
