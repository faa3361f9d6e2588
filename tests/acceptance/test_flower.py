"""Flower shows the work and nothing that was said."""

from __future__ import annotations

import httpx
import pytest

from tests.acceptance.system import System
from tests.acceptance.test_chat import submit, wait_for

pytestmark = pytest.mark.timeout(120)
SECRET = "zebra-crossing-47"


def test_flower_is_closed_without_the_password(system: System) -> None:
    for path in ("/", "/api/tasks", "/workers"):
        assert httpx.get(f"{system.flower_url}{path}").status_code == 401


def test_flower_lists_tasks_with_state_and_run_time(system: System) -> None:
    with system.http() as http:
        jobs = [submit(http, prompt=SECRET, max_tokens=40) for _ in range(3)]
        for job in jobs:
            wait_for(http, job["id"], lambda found: found["status"] == "incomplete")
    user, password = (system.home / "flower.password").read_text().strip().split(":", 1)

    def tasks() -> dict[str, dict[str, object]]:
        answer = httpx.get(f"{system.flower_url}/api/tasks", auth=(user, password), timeout=10)
        assert answer.status_code == 200
        assert SECRET not in answer.text
        return {str(task["args"]): task for task in answer.json().values()}

    def all_shown() -> bool:
        shown = tasks()
        return all(
            any(job["id"] in args and task["state"] == "SUCCESS" for args, task in shown.items())
            for job in jobs
        )

    system.wait_until(all_shown, 20)
    for args, task in tasks().items():
        if any(job["id"] in args for job in jobs):
            assert isinstance(task["runtime"], float) and task["runtime"] > 0
