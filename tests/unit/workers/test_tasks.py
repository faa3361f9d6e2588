from __future__ import annotations

import pytest

from shared import keys
from shared.celery_app import make_celery
from workers.tasks import BellRequest, register_bell


def test_the_bell_is_a_task_that_never_runs() -> None:
    app = make_celery("redis://localhost:1")
    register_bell(app)
    task = app.tasks[keys.BELL_TASK]
    assert (task.acks_late, task.ignore_result) == (True, True)
    with pytest.raises(NotImplementedError):
        task.run("job_a")
    app.close()


def test_a_cold_shutdown_cancels_no_job() -> None:
    class Pool:
        def terminate_job(self, *_: object) -> None:
            raise AssertionError

    request = BellRequest.__new__(BellRequest)
    request.time_start = 1.0
    request.cancel(Pool(), emit_retry=False)
