"""The Celery app: one task, the wake-up, on one queue a model. Messages carry a job's id and nothing else."""

from __future__ import annotations

from celery import Celery
from kombu import Queue

from shared.store import keys

#: A message is given back by the reaper, never by kombu's clock: a day is longer than any job.
VISIBILITY_TIMEOUT_S = 86_400


def make_celery(broker_url: str) -> Celery:
    """The app as every process configures it (celery: https://docs.celeryq.dev/en/stable/userguide/configuration.html)."""
    app = Celery("baton", broker=_kombu_url(broker_url), set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_send_sent_event=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # A worker takes as many wake-ups as it can answer, counted by its pool also after a broken connection.
        worker_disable_prefetch=True,
        worker_enable_prefetch_count_reduction=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A refusal (memory or disk full) is no reason for a worker to end.
        broker_channel_error_retry=True,
        broker_transport_options={
            "global_keyprefix": keys.PREFIX,
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "queue_order_strategy": "priority",
            "socket_keepalive": True,
            "socket_connect_timeout": 2,
            "health_check_interval": 25,
        },
    )
    return app


def model_queue(model: str) -> Queue:
    """The queue on which a model's wake-ups are sent."""
    return Queue(keys.wake_up_queue(model), routing_key=keys.wake_up_queue(model))


def _kombu_url(url: str) -> str:
    """kombu names a Unix socket `redis+socket://`, redis-py `unix://`."""
    return url.replace("unix://", "redis+socket://", 1)
