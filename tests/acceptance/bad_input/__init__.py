"""The table of bad input: what is sent, and the error that it gets."""
