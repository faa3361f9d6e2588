"""Compares Baton's whole path with other servers: `make bench-engine` (docs/benchmarks.md)."""
