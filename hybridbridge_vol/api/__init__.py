"""For scripts and notebooks: `snapshot` is an opened image, `methods` its tools, `table` what they return."""
