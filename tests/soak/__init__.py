"""Soak: runs only the engine under random work for a long time and checks every output."""
