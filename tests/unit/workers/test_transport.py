from __future__ import annotations

from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from workers.transport import BellConnection


def test_a_redis_that_is_away_is_tried_each_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def wait(error: Exception, interval: float) -> None:
        assert error is not None
        waited.append(interval)

    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _: None)
    with (
        BellConnection(f"redis+socket://{tmp_path}/none.sock") as connection,
        pytest.raises(OperationalError),
    ):
        connection.ensure_connection(wait, 5)
    assert waited == [1.0] * 5
