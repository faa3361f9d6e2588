"""Soak: the engine alone under random work for long, every output checked."""
