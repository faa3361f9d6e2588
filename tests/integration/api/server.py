"""ApiServer: a real replica, uvicorn on a free port, in a thread of the test's process."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from fastapi import FastAPI

from api.app import create_app
from api.lifespan import Services
from api.main import make_server
from api.settings import ApiSettings

MODEL = "test"


class ApiServer:
    """One replica. Any number of them may serve the same Redis."""

    def __init__(
        self, redis_url: str, *, make_app: Callable[[ApiSettings], FastAPI] = create_app, **changes: Any
    ) -> None:
        base = ApiSettings(redis_url, redis_url, MODEL, drain_s=1, first_output_wait_s=5)
        self.settings = dataclasses.replace(base, **changes)
        self._app = make_app(self.settings)
        self._server = make_server(self._app, self.settings)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(2048)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    @property
    def services(self) -> Services:
        services = self._app.state.services
        assert isinstance(services, Services)
        return services

    @property
    def replica(self) -> str:
        """The name under which the store knows it."""
        return self.services.readership.replica

    def start(self) -> None:
        """Serve, after at most ten seconds."""
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.005)

    def begin_exit(self) -> None:
        """As SIGTERM does."""
        self._server.begin_exit()

    def join(self) -> None:
        """Wait for the end of one that was told to stop."""
        self._thread.join(15)
        assert not self._thread.is_alive(), "the server did not stop"

    def __enter__(self) -> ApiServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.begin_exit()
        self.join()
