"""What the tools that report about the whole system share."""
