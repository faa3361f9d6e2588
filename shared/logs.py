"""Logs: one line an event on stderr, with the process's role. Never a prompt, an output or a key."""

from __future__ import annotations

import logging
import sys


def configure_logging(role: str, level: str) -> None:
    """Send all loggers of this process to stderr. Called once, by an entry point."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {role} %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "urllib3", "kombu", "celery.redirected", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
