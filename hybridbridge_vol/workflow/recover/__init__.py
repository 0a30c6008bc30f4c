"""Recovering the content of the guest's files from an image, with a manifest of what is complete."""
