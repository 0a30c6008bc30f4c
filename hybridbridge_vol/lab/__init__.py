"""Many images: batches, the dataset they fill, and how the work is spread."""
