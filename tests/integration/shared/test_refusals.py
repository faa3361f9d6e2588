"""Whatever Redis answers instead of a result, the store says that it is unavailable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import nullcontext

import pytest
from redis.asyncio import Redis

from shared.domain.request_key import RequestKey
from shared.errors import (
    DecodeError,
    ErrorInfo,
    KeyReused,
    ScriptFailed,
    SettingsError,
    StoreUnavailable,
    TooManyJobs,
)
from shared.store import keys
from shared.store.append import Append
from shared.store.deadline import Deadline
from shared.store.job_store import JobStore, Reader
from shared.store.redis_client import check_access, connect, unavailable_as_error
from tests.integration.shared.test_job_store import LEASE, MODEL, new_job, running
from tests.redis_proxy import REFUSALS, Garble, Pass, RedisProxy, Refuse
from tests.redis_server import RedisServer

JOB = "job_AAAAAAAAAAAAAAAAAAAAAAAA"
ERROR = ErrorInfo("no")
#: Every method of the store that calls Redis.
CALLS: dict[str, Callable[[JobStore], Awaitable[object]]] = {
    "model_times": lambda store: store.model_times(),
    "owns": lambda store: store.owns("owner", JOB),
    "create": lambda store: store.create(new_job()),
    "withdraw": lambda store: store.withdraw(JOB, RequestKey("o:k", "f")),
    "bind": lambda store: store.bind(RequestKey("o:k", "f"), JOB),
    "claim": lambda store: store.claim(LEASE, "token"),
    "append": lambda store: store.append([Append(JOB, "token", (0,), (0,))]),
    "keep_result": lambda store: store.keep_result(JOB, "token", b"{}"),
    "requeue": lambda store: store.requeue(JOB, "token", "drain"),
    "cancel": lambda store: store.cancel(JOB, "client"),
    "give_up": lambda store: store.give_up(JOB, "client"),
    "expire": lambda store: store.expire(JOB, seen=Deadline("expires", JOB, 1)),
    "fail": lambda store: store.fail(JOB, ERROR),
    "rewrite_file": lambda store: store.rewrite_file(),
    "register": lambda store: store.register(LEASE),
    "beat": lambda store: store.beat("w1.a", steps=1, wake_ups=0, running={}, stats={}),
    "drain": lambda store: store.drain("w1.a"),
    "release": lambda store: store.release("w1.a", "drain", died=False),
    "register_replica": lambda store: store.register_replica("r1"),
    "beat_replica": lambda store: store.beat_replica("r1", {}),
    "join": lambda store: store.join(JOB, Reader("r1", 1)),
    "leave": lambda store: store.leave("r1", {JOB: 1}),
    "release_replica": lambda store: store.release_replica("r1"),
    "audit": lambda store: store.audit([JOB]),
    "promote": lambda store: store.promote([MODEL]),
    "forget": lambda store: store.forget(JOB),
    "get": lambda store: store.get(JOB),
    "get_with_result": lambda store: store.get_with_result(JOB),
    "get_many": lambda store: store.get_many([JOB]),
    "list_ids": lambda store: store.list_ids("owner", before=None, limit=2),
    "list_ids before": lambda store: store.list_ids("owner", before=JOB, limit=2),
    "owner": lambda store: store.owner(JOB),
    "is_known": lambda store: store.is_known(RequestKey("o:k", "f")),
    "entries": lambda store: store.entries(JOB),
    "page": lambda store: store.page(JOB, after=None, limit=2),
    "page_back_to": lambda store: store.page_back_to(JOB, (1,), limit=2),
    "last_entries": lambda store: store.last_entries([JOB]),
    "queue_positions": lambda store: store.queue_positions([(MODEL, JOB)]),
    "num_queued": lambda store: store.num_queued(MODEL),
    "first_queued": lambda store: store.first_queued(MODEL),
    "pace": lambda store: store.pace(MODEL),
    "survey": lambda store: store.survey(limit=9),
    "workers": lambda store: store.workers(),
    "models": lambda store: store.models(),
    "ping": lambda store: store.ping(),
}


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[RedisProxy]:
    with RedisProxy(redis_server.url) as carrying:
        yield carrying


@pytest.fixture
async def behind_proxy(proxy: RedisProxy, redis_client: Redis) -> AsyncIterator[JobStore]:  # noqa: ARG001  # empty
    client = connect(proxy.url, timeout_s=2)
    yield JobStore(client)
    await client.aclose()


def test_every_method_is_called() -> None:
    methods = {name for name in dir(JobStore) if not name.startswith("_")}
    assert {name.partition(" ")[0] for name in CALLS} == methods


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_every_refusal_means_unavailable(
    proxy: RedisProxy, behind_proxy: JobStore, refusal: str
) -> None:
    proxy.mode = Refuse(refusal)
    for call in CALLS.values():
        with pytest.raises(StoreUnavailable):
            await call(behind_proxy)
    proxy.mode = Pass()
    await behind_proxy.survey(limit=9)


@pytest.mark.parametrize(
    "form",
    [
        "ERR Error running script (call to f_0123456789abcdef): @user_script:12: @user_script: 12: -{}",
        "ERR Error running script (call to f_0123456789abcdef): @user_script:12: {}",
        "{} script: 0123456789abcdef, on @user_script:12.",
    ],
)
async def test_a_refusal_inside_a_script_is_no_fault_of_it(
    proxy: RedisProxy, behind_proxy: JobStore, form: str
) -> None:
    for refusal in REFUSALS:
        if not refusal.split(" ")[0].isupper() or refusal.startswith("ERR"):
            continue
        proxy.mode = Refuse(form.format(refusal))
        with pytest.raises(StoreUnavailable) as raised:
            await behind_proxy.claim(LEASE, "token")
        assert not isinstance(raised.value, ScriptFailed), refusal


@pytest.mark.parametrize(
    "text",
    [
        "ERR Error running script (call to f_01): @user_script:7: user_script:7: attempt to index a nil value",
        "ERR Error running script (call to f_01): @user_script:7: WRONGTYPE Operation against a key",
        "ERR user_script:7: attempt to perform arithmetic on a nil value script: 01, on @user_script:7.",
        "ERR value is not an integer or out of range script: 01, on @user_script:7.",
        "WRONGTYPE Operation against a key holding the wrong kind of value script: 01, on @user_script:7.",
        "ERR Error compiling script (new function): user_script:1: unexpected symbol",
    ],
)
async def test_a_fault_of_a_script_is_known(proxy: RedisProxy, behind_proxy: JobStore, text: str) -> None:
    proxy.mode = Refuse(text)
    with pytest.raises(ScriptFailed):
        await behind_proxy.claim(LEASE, "token")


async def test_a_key_of_another_type_is_no_other_error(store: JobStore, redis_client: Redis) -> None:
    await redis_client.set(keys.WORKERS, "text")
    for name in ("survey", "workers", "claim", "beat"):
        with pytest.raises(ScriptFailed):
            await CALLS[name](store)


async def test_the_script_cache_may_be_flushed(store: JobStore, redis_client: Redis) -> None:
    job = await running(store)
    await redis_client.script_flush()
    assert [answer.kind for answer in await store.append([Append(job.id, "h1", (0,), (0,))])] == ["end"]


async def test_bytes_that_are_no_text_are_read_and_removed(store: JobStore, redis_client: Redis) -> None:
    await redis_client.sadd(keys.WORKERS, b"\xff\xfe.1")
    (unreadable,) = (await store.survey(limit=9)).unreadable
    assert unreadable.encode(errors="surrogateescape") == b"\xff\xfe.1"
    await store.release(unreadable, "worker_died", died=True)
    assert (await store.survey(limit=9)).unreadable == {}


async def test_a_garbled_reply_raises_nothing_else(proxy: RedisProxy, behind_proxy: JobStore) -> None:
    await running(behind_proxy)
    # Where a length was spoilt, the client waits for more.
    impatient = connect(proxy.url, timeout_s=0.05)
    for name, call in CALLS.items():
        for seed in range(20):
            proxy.mode = Garble(seed)
            try:
                await call(JobStore(impatient))
            except (StoreUnavailable, DecodeError, KeyReused, TooManyJobs):
                continue
            except Exception as error:
                raise AssertionError(f"{name}, seed {seed}") from error
    await impatient.aclose()


@pytest.mark.parametrize(
    ("refusal", "is_final"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", True),
        ("NOAUTH Authentication required.", True),
        ("NOPERM this user has no permissions to run the 'ping' command", True),
        ("ERR invalid password", True),
        ("ERR DB index is out of range", True),
        ("LOADING Redis is loading the dataset in memory", False),
        ("BUSY Redis is busy running a script.", False),
        ("NOREPLICAS Not enough good replicas to write.", False),
    ],
)
def test_a_start_ends_only_where_waiting_would_not_help(
    proxy: RedisProxy, refusal: str, is_final: bool
) -> None:
    proxy.mode = Refuse(refusal)
    with pytest.raises(SettingsError, match="BATON_REDIS_URL: Redis") if is_final else nullcontext():
        check_access({"BATON_REDIS_URL": proxy.url, "BATON_BROKER_URL": ""})


def test_an_unknown_database_ends_a_start(redis_server: RedisServer) -> None:
    with pytest.raises(SettingsError, match="DB index"):
        check_access({"BATON_BROKER_URL": redis_server.url + "?db=99"})


@pytest.mark.parametrize(
    "url", ["redis://no-such-host.invalid:6379/0", "redis://127.0.0.1:1/0", "unix:///nowhere"]
)
async def test_no_server_means_unavailable(url: str) -> None:
    redis = connect(url, timeout_s=2)
    with pytest.raises(StoreUnavailable), unavailable_as_error():
        await redis.ping()
    await redis.aclose()
