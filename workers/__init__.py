"""The worker process. It does not import FastAPI."""
