from __future__ import annotations

from pathlib import Path

from cli.supervisor.start_requests import StartRequests


def test_a_wish_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    requests = StartRequests(tmp_path)
    assert requests.take("worker-1") is False
    for _ in range(2):
        StartRequests(tmp_path).put("worker-1")
    assert requests.take("worker-2") is False
    assert (requests.take("worker-1"), requests.take("worker-1")) == (True, False)
