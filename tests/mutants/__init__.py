"""Mutation check: each guard is taken out once, and a test must fail for it (`make mutants`)."""
