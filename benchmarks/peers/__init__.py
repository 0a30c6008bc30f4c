"""Other tools' answers to the same questions, side by side: `python -m benchmarks.peers`."""
