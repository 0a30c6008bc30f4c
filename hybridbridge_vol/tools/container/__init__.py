"""Containers: processes in the control groups of an engine, and what the engine's own files say of them."""
