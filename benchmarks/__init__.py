"""Timings: medians, side by side in one run, written to RESULTS.md with the machine and the versions."""
