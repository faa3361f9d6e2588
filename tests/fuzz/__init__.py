"""Fuzzers: `make fuzz`. Each part attacks a running system, or the loading of models, with seeded bad input."""
