"""Continuously batched generation over the forward of a transformers model. Knows neither Redis nor Celery."""
