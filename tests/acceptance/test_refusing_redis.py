"""Redis refuses every call for seconds: no process ends, and streams go on exactly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.acceptance.sse import Answer, blocks
from tests.acceptance.system import System
from tests.acceptance.test_chat import PROMPT, body
from tests.redis_proxy import Pass, RedisProxy, Refuse, Silence
from tests.redis_server import RedisServer
from tests.tiny_chat_model import reference_answer

pytestmark = pytest.mark.timeout(240)
LONG, FAULT_S = 1000, 3.0


@contextmanager
def client(system: System) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(f"unix://{system.home}/redis/redis.sock") as found:
        yield found


def without_replicas(system: System) -> None:
    """What any guide to Sentinel sets."""
    with client(system) as found:
        found.config_set("min-replicas-to-write", 1)
        time.sleep(FAULT_S)
        found.config_set("min-replicas-to-write", 0)


def beside_a_slow_script(system: System) -> None:
    """Somebody's script that takes seconds."""
    script = """
        local until_s = redis.call('TIME')[1] + ARGV[1]
        repeat local now_s = redis.call('TIME')[1] until tonumber(now_s) > until_s
    """
    with client(system) as found:
        found.config_set("lua-time-limit", 200)
        found.eval(script, 0, FAULT_S)
        found.config_set("lua-time-limit", 5000)


def without_a_script_cache(system: System) -> None:
    with client(system) as found:
        for _ in range(30):
            found.script_flush()
            found.client_kill_filter(_type="normal", skipme=True)
            found.client_kill_filter(_type="pubsub", skipme=True)
            time.sleep(FAULT_S / 30)


def without_room_for_clients(system: System) -> None:
    with client(system) as found:
        found.config_set("maxclients", 1)
        found.client_kill_filter(_type="normal", skipme=True)
        time.sleep(FAULT_S)
        found.config_set("maxclients", 10_000)


@pytest.mark.parametrize(
    "fault", [without_replicas, beside_a_slow_script, without_a_script_cache, without_room_for_clients]
)
def test_nothing_ends_and_the_stream_goes_on_exactly(
    system: System, tiny_model: Path, fault: Callable[[System], None]
) -> None:
    before = {part["id"]: part["pid"] for part in system.parts()}
    assert stream_amid(system, tiny_model, lambda: fault(system))
    system.wait_until(system.is_ready, 20)
    assert {part["id"]: part["pid"] for part in system.parts()} == before
    assert stream_amid(system, tiny_model, lambda: None)


def stream_amid(system: System, tiny_model: Path, fault: Callable[[], None]) -> bool:
    """Whether a stream is exact while something happens."""
    found, happening = [], threading.Thread(target=fault)
    with (
        system.http() as http,
        http.stream("POST", "/v1/chat/completions", json=body(max_tokens=LONG, stream=True)) as response,
    ):
        for block in blocks(response):
            found.append(block)
            if len(found) == 10:
                happening.start()
    happening.join()
    answer = Answer.of(found)
    return answer.is_done and answer.texts == {0: reference_answer(tiny_model, PROMPT, LONG)}


def test_a_redis_of_ones_own_that_refuses_or_hangs(tiny_model: Path) -> None:
    """Also at the start, when everything waits."""
    own = System(tiny_model, API_REPLICAS="1")
    own.start()
    try:
        with RedisProxy(f"unix://{own.home}/redis/redis.sock") as proxy:
            proxy.mode = Refuse("LOADING Redis is loading the dataset in memory")
            # A second `baton up` beside the first one, with its Redis.
            beside = System(tiny_model, API_REPLICAS="1", REDIS_URL=proxy.url)
            healing = threading.Timer(5, lambda: setattr(proxy, "mode", Pass()))
            healing.start()
            beside.start()
            try:
                before = {part["id"]: part["pid"] for part in beside.parts()}

                def trouble() -> None:
                    for mode in (Refuse("READONLY You can't write against a read only replica."), Silence()):
                        proxy.mode = mode
                        time.sleep(FAULT_S)
                    proxy.mode = Pass()
                    proxy.cut_all()

                assert stream_amid(beside, tiny_model, trouble)
                beside.wait_until(beside.is_ready, 30)
                assert {part["id"]: part["pid"] for part in beside.parts()} == before
            finally:
                beside.remove()
    finally:
        own.remove()


def test_a_redis_that_comes_back_empty_ends_every_stream(tiny_model: Path) -> None:
    """Its file is lost while jobs run: their readers are told, the next request is served, and no process ends."""
    server = RedisServer()
    server.start()
    own = System(tiny_model, API_REPLICAS="1", REDIS_URL=server.url)

    def lose_everything() -> None:
        server.kill()
        (server.directory / "appendonly.aof").unlink()
        server.start()

    try:
        own.start()
        before = {part["id"]: part["pid"] for part in own.parts()}
        losing, found = threading.Thread(target=lose_everything), []
        with own.http() as http:
            with http.stream(
                "POST", "/v1/chat/completions", json=body(max_tokens=2 * LONG, stream=True)
            ) as response:
                for block in blocks(response):
                    found.append(block)
                    if len(found) == 10:
                        losing.start()
            losing.join()
            assert found[-1].json["error"]["code"] == "stream_expired"
            job_id = found[0].json["id"].replace("chatcmpl-", "job_")
            assert http.get(f"/v1/jobs/{job_id}").status_code == 404
        own.wait_until(own.is_ready, 30)
        assert stream_amid(own, tiny_model, lambda: None)
        assert {part["id"]: part["pid"] for part in own.parts()} == before
    finally:
        own.remove()
        server.remove()
