"""Continuously batched generation over a transformers model. Independent of Redis and Celery."""
