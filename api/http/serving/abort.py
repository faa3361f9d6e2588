"""The ASGI extension by which the app cuts its client's connection."""

#: Its name in the scope's extensions; `call` cuts the connection at once.
ABORT = "baton.abort"
