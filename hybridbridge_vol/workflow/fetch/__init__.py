"""Distributions' packages, fetched by the distributions' own clients, which check the signatures. Nothing is
installed."""
