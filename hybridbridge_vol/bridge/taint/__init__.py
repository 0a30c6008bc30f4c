"""The taint engine: rules for each instruction, labels, the native core."""
