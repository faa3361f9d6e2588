from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from kombu.asynchronous import Hub
from kombu.exceptions import OperationalError

from workers.celery_app.transport import WakeUpConnection


def test_a_redis_that_is_away_is_tried_each_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def wait(error: Exception, interval: float) -> None:
        assert error is not None
        waited.append(interval)

    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _: None)
    with (
        WakeUpConnection(f"redis+socket://{tmp_path}/none.sock") as connection,
        pytest.raises(OperationalError),
    ):
        connection.ensure_connection(wait, 5)
    assert waited == [1.0] * 5


def test_a_closed_connection_leaves_the_event_loop(tmp_path: Path) -> None:
    hub = Hub()
    with WakeUpConnection(f"redis+socket://{tmp_path}/none.sock") as connection:
        transport = connection.transport
        transport.register_with_event_loop(SimpleNamespace(client=connection), hub)
        assert len(hub.on_tick) == 1
        transport.close_connection(None)
        assert hub.on_tick == set()
    hub.close()
