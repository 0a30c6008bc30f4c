"""Hostile images: mutants of real images, and what the tools make of them.

`python -m benchmarks.hostile` makes a campaign of them and writes the part "Hostile images" of RESULTS.md.
"""
