"""The Celery app: one task, the wake-up, and one queue for each model. A message carries only a job's id."""

from __future__ import annotations

from celery import Celery
from kombu import Queue

from shared.store import keys

#: The reaper sends lost wake-ups again. kombu must not redeliver by its own clock: a day is longer than any job.
VISIBILITY_TIMEOUT_S = 86_400


def make_celery(broker_url: str) -> Celery:
    """Return the app that every process uses.

    https://docs.celeryq.dev/en/stable/userguide/configuration.html
    """
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
        # The worker's pool limits how many wake-ups it takes, also after a broken connection.
        worker_disable_prefetch=True,
        worker_enable_prefetch_count_reduction=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A worker survives when Redis refuses a write because its memory or disk is full.
        broker_channel_error_retry=True,
        broker_transport_options={
            "global_keyprefix": keys.PREFIX,
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "queue_order_strategy": "priority",
            "socket_keepalive": True,
            "socket_connect_timeout": 2,
            # A broker that hangs, or that is away, must not keep the thread that sends. Workers connect again by
            # workers.celery_app.transport.
            "socket_timeout": 5,
            "max_retries": 0,
            # How long a connection may be dead until Celery notices. The watchdog waits ten seconds for that.
            "health_check_interval": 3,
        },
    )
    return app


def model_queue(model: str) -> Queue:
    """Return the queue for a model's wake-ups."""
    return Queue(keys.wake_up_queue(model), routing_key=keys.wake_up_queue(model))


def _kombu_url(url: str) -> str:
    """Translate redis-py's `unix://` into kombu's `redis+socket://`, which has another word for the database."""
    if not url.startswith("unix://"):
        return url
    return url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)
