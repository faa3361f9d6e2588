from __future__ import annotations

import pytest

from shared.cluster.celery_app import make_celery
from shared.store import keys
from workers.celery_app.tasks import WakeUpRequest, register_wake_up_task


def test_the_wake_up_is_a_task_that_never_runs() -> None:
    app = make_celery("redis://localhost:1")
    register_wake_up_task(app)
    task = app.tasks[keys.WAKE_UP_TASK]
    assert (task.acks_late, task.ignore_result) == (True, True)
    with pytest.raises(NotImplementedError):
        task.run("job_a")
    app.close()


def test_a_cold_shutdown_cancels_no_job() -> None:
    class Pool:
        def terminate_job(self, *_: object) -> None:
            raise AssertionError

    request = WakeUpRequest.__new__(WakeUpRequest)
    request.time_start = 1.0
    request.cancel(Pool(), emit_retry=False)
