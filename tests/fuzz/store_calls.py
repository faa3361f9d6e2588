"""Every call of the store, each answered by every error word: it raises StoreUnavailable and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from shared.cluster.cluster_stats import read_cluster_stats
from shared.domain.job import NewJob, new_job_id
from shared.domain.lease import Lease
from shared.domain.request import GenerationRequest, TextPrompt
from shared.domain.request_key import RequestKey
from shared.errors import BatonError, ErrorInfo, StoreUnavailable
from shared.store.append import Append
from shared.store.job_store import JobStore, Reader
from shared.store.redis_client import connect
from tests.fuzz.error_words import WORDS, name_of
from tests.fuzz.tally import Tally
from tests.fuzz.word_proxy import Rule, WordProxy

_LEASE = Lease("w.a", "w", "m", "host", 1, "cpu", 4, "rev")
_JOB_ID = new_job_id()
_REQUEST = GenerationRequest((TextPrompt("x"),))

Call = Callable[[JobStore, Redis], Awaitable[object]]

CALLS: dict[str, Call] = {
    "create": lambda store, _: store.create(NewJob(new_job_id(), "m", "owner", _REQUEST)),
    "bind": lambda store, _: store.bind(RequestKey("owner:x", "y"), _JOB_ID),
    "claim": lambda store, _: store.claim(_LEASE, "token"),
    "append": lambda store, _: store.append([Append(_JOB_ID, "token", (0,), (0,))]),
    "keep_result": lambda store, _: store.keep_result(_JOB_ID, "token", b"{}"),
    "requeue": lambda store, _: store.requeue(_JOB_ID, "token", "drain"),
    "cancel": lambda store, _: store.cancel(_JOB_ID, "client"),
    "give_up": lambda store, _: store.give_up(_JOB_ID, "client"),
    "expire": lambda store, _: store.expire(_JOB_ID),
    "fail": lambda store, _: store.fail(_JOB_ID, ErrorInfo("m")),
    "rewrite_file": lambda store, _: store.rewrite_file(),
    "register": lambda store, _: store.register(_LEASE),
    "beat": lambda store, _: store.beat("w.a", steps=1, wake_ups=0, running={}, stats={}),
    "drain": lambda store, _: store.drain("w.a"),
    "release": lambda store, _: store.release("w.b", "worker_died", died=True),
    "register_replica": lambda store, _: store.register_replica("r"),
    "beat_replica": lambda store, _: store.beat_replica("r", {_JOB_ID: 1}),
    "join": lambda store, _: store.join(_JOB_ID, Reader("r", 1)),
    "leave": lambda store, _: store.leave("r", {_JOB_ID: 1}),
    "release_replica": lambda store, _: store.release_replica("q"),
    "audit": lambda store, _: store.audit([_JOB_ID]),
    "promote": lambda store, _: store.promote(["m"]),
    "forget": lambda store, _: store.forget(_JOB_ID),
    "get": lambda store, _: store.get(_JOB_ID),
    "get_with_result": lambda store, _: store.get_with_result(_JOB_ID),
    "get_many": lambda store, _: store.get_many([_JOB_ID]),
    "list_ids": lambda store, _: store.list_ids("owner", before=None, limit=9),
    "list_ids after": lambda store, _: store.list_ids("owner", before=_JOB_ID, limit=9),
    "owner": lambda store, _: store.owner(_JOB_ID),
    "is_known": lambda store, _: store.is_known(RequestKey("owner:x", "y")),
    "entries": lambda store, _: store.entries(_JOB_ID),
    "page": lambda store, _: store.page(_JOB_ID, after=None, limit=9),
    "page_back_to": lambda store, _: store.page_back_to(_JOB_ID, (0,), limit=9),
    "last_entries": lambda store, _: store.last_entries([_JOB_ID]),
    "queue_positions": lambda store, _: store.queue_positions([("m", _JOB_ID)]),
    "num_queued": lambda store, _: store.num_queued("m"),
    "first_queued": lambda store, _: store.first_queued("m"),
    "pace": lambda store, _: store.pace("m"),
    "survey": lambda store, _: store.survey(limit=9),
    "workers": lambda store, _: store.workers(),
    "models": lambda store, _: store.models(),
    "ping": lambda store, _: store.ping(),
    "cluster stats": lambda store, redis: read_cluster_stats(redis, store, ["m"]),
}


def run(proxy: WordProxy, tally: Tally) -> None:
    """Answer every call by every word, and cut and garble it as well."""
    asyncio.run(_run(proxy, tally))


async def _run(proxy: WordProxy, tally: Tally) -> None:
    redis = connect(proxy.url, timeout_s=5)
    store = JobStore(redis)
    rules = [Rule(None, "error", text, times=1 << 30) for text in WORDS]
    rules += [Rule(None, "cut", times=1 << 30), Rule(None, "garble", times=1 << 30)]
    try:
        for rule in rules:
            name = f"store: {name_of(rule.text) if rule.act == 'error' else rule.act}"
            for call_name, call in CALLS.items():
                proxy.follow(rule)
                result = await _result(call, store, redis, rule)
                proxy.follow(None)
                tally.add("every call of the store", result)
                if result not in ("StoreUnavailable", "a script's own fault"):
                    tally.fault("every call of the store", f"{name}: {result}", call_name)
                await redis.connection_pool.disconnect()
    finally:
        await redis.aclose()


async def _result(call: Call, store: JobStore, redis: Redis, rule: Rule) -> str:
    try:
        await call(store, redis)
    except StoreUnavailable:
        return "StoreUnavailable"
    except ResponseError as error:
        # Only `ERR` may mean that a script is wrong: waiting would not help then.
        return "a script's own fault" if rule.text.startswith("ERR ") else type(error).__name__
    except (BatonError, RedisError, OSError, ValueError, RuntimeError) as error:
        return type(error).__name__
    return "returned"
