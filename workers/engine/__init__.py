"""Continuously batched generation over a transformers model. Knows neither Redis nor Celery."""
