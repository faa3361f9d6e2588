"""The way of wake-ups to Redis, against real Redis."""

from __future__ import annotations

from celery import Celery

from workers.celery_app.transport import WakeUpConnection


def test_calls_share_a_client_as_long_as_its_connections_last(celery: Celery) -> None:
    with WakeUpConnection(celery.conf.broker_url) as connection:
        channel = connection.default_channel
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
        channel._disconnect_pools()
        with channel.conn_or_acquire() as third:
            assert third is not first
            assert third.ping()
