"""StartRequests: wishes that a drained worker start again, from `baton workers start` to `baton up`."""

from __future__ import annotations

from pathlib import Path


class StartRequests:
    """Files `$BATON_HOME/run/start-<id>`: one a wish, removed by who fulfils it."""

    def __init__(self, home: Path) -> None:
        self._directory = home / "run"

    def put(self, worker_id: str) -> None:
        """Wish it."""
        self._path(worker_id).touch(mode=0o600)

    def take(self, worker_id: str) -> bool:
        """Whether it was wished; afterwards it is not."""
        try:
            self._path(worker_id).unlink()
        except FileNotFoundError:
            return False
        return True

    def _path(self, worker_id: str) -> Path:
        return self._directory / f"start-{worker_id}"
