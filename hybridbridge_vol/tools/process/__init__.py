"""What the process tools share."""
