"""Many images: one dataset and one summary."""
