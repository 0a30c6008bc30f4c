"""Recorded answers of images, and how today's differ from them."""
