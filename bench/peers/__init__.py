"""Baton's whole path against other servers, in one run: `make bench-engine` (docs/benchmarks.md)."""
