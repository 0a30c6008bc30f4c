"""What tools share that report about the whole system."""
