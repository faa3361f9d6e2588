"""Passes requests to start a drained worker from `baton workers start` to `baton up`."""

from __future__ import annotations

from pathlib import Path


class StartRequests:
    """Files named `$BATON_HOME/run/start-<id>`. `baton up` removes a file when it starts the worker."""

    def __init__(self, home: Path) -> None:
        self._directory = home / "run"

    def put(self, worker_id: str) -> None:
        """Request the start of a worker."""
        self._path(worker_id).touch(mode=0o600)

    def take(self, worker_id: str) -> bool:
        """Removes a request. Returns whether there was one."""
        try:
            self._path(worker_id).unlink()
        except OSError:  # there is none
            return False
        return True

    def _path(self, worker_id: str) -> Path:
        return self._directory / f"start-{worker_id}"
