"""The record fuzzer: mutated keys in the Redis of a running system."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import httpx
import redis

from shared.store import keys
from tests.fuzz.garbage import STRINGS, damage, json_text
from tests.fuzz.http_reply import HttpReply
from tests.fuzz.tally import Budget, Tally
from tests.fuzz.target import CHAT, JOBS, Health, Target, chat

_ID = re.compile(r"(?:job_|chatcmpl-)\w+")
#: Codes with which a route may refuse a job that it cannot read.
_UNREADABLE = {"job_unreadable", "endpoint_unknown", "event_unreadable"}
#: Codes with which a route may say that a job's data are damaged, or that its worker said so.
_DAMAGED = {"job_damaged", "unreadable_job", "stream_corrupt"}
#: Seconds in which every reaper has made two rounds.
_ROUNDS_S = 1.2
#: Mutations of single jobs between two checks of the whole system.
_BATCH = 20
#: One in so many mutations is of a key that all jobs share.
_SHARED_EVERY = 8
#: How long a system may refuse new jobs.
_ACCEPT_S = 20.0
_HUGE = b"x" * 1_000_000

#: Values of a field, beside damaged ones: other types, other numbers, no UTF-8, very long.
_VALUES: tuple[bytes, ...] = (
    b"", b"-1", b"0", b"1", b"99", b"1e999", b"nan", b"9" * 30, b"9" * 400, b"\xff\xfe", b"\xed\xa0\x80",
    b"\0", b"null", b"[]", b"{}", b"[[",
    b'{"a":', b'"x"', b"urgent", b"queued", b"in_progress", b"completed", b"paused",
    b"job_AAAAAAAAAAAAAAAAAAAAAAAA", b" ", b"a:1 b:2",
    b"x" * 70_000, _HUGE, b"1,2", b"0,0,0,0", b"-9223372036854775808", b"true",
)  # fmt: skip
_EVENTS: tuple[Any, ...] = (
    {"type": "queued"}, {"type": "started", "worker": "w"},
    {"type": "resumed", "worker": "w", "attempt": 2, "exact": True},
    {"type": "requeued", "reason": "drain"}, {"type": "completed"},
    {"type": "failed", "error": {"message": "m", "type": "t", "param": None, "code": "c", "status": 500}},
    {"type": "output", "choices": [[0, 0, [1], ["a"], None, None, [0, None, 0, 0, 0], None, None]]},
    {"type": "output", "choices": [[0, 0, [1], ["a"], ["stop", None], None, [0, None, 0, 0, 0],
    {"0": [["open", "f", "i"]]}, None]]},
    {"type": "cancelled", "reason": "client"}, {"type": "from_the_future", "x": [1]}, {"type": "expired"},
    {"type": "incomplete"},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutation:
    """What was changed."""

    group: str
    what: str


def run(target: Target, seed: int, budget: Budget, tally: Tally) -> None:
    """Mutate records until the budget is used up."""
    fuzzer = RecordFuzzer(target, tally)
    number = 0
    while budget.is_left(number):
        chance = random.Random(f"{seed}/{number}")
        if number % _SHARED_EVERY == 0:
            fuzzer.attack_shared(chance, number)
        else:
            fuzzer.attack_job(chance, number)
        number += 1
        if number % _BATCH == 0 or not budget.is_left(number):
            fuzzer.check(f"mutations up to {number}")
    fuzzer.close()


class RecordFuzzer:
    """Attacks one system."""

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._redis = target.redis
        self._tally = tally
        self._health = Health(target)
        self._http = httpx.Client(base_url=target.url, timeout=30, trust_env=False)
        #: Jobs that were mutated since the last check.
        self._jobs: list[str] = []

    def close(self) -> None:
        self._http.close()
        self._health.close()

    # Records of one job

    def attack_job(self, chance: random.Random, number: int) -> None:
        """Mutate a key of a job that is over, waits or runs; then read, list and delete it."""
        state = chance.choice(("over", "over", "waiting", "running"))
        job_id = self._new_job(state, f"mutations before {number}")
        if job_id is None:
            return
        self._jobs.append(job_id)
        mutation = _mutate_job(chance, self._redis, job_id, self._target.model)
        example = f"{number}: {state}: {mutation.what}"
        group = mutation.group
        if chance.random() < 0.3:
            self._read(group, example, "POST", f"{JOBS}/{job_id}/cancel")
        if chance.random() < 0.2:
            self._read(group, example, "POST", f"{JOBS}/{job_id}/retry")
        self._read(group, example, "GET", f"{JOBS}/{job_id}/events", accept="application/json")
        if chance.random() < 0.3:
            self._read(group, example, "GET", f"{CHAT}/{job_id.replace('job_', 'chatcmpl-')}", may_wait=True)
        self._read(group, example, "GET", f"{JOBS}?limit=100", always=200)
        shown = self._read(group, example, "GET", f"{JOBS}/{job_id}")
        self._tally.add(group, _shown(shown))
        if chance.random() < 0.7:
            self._delete(group, example, job_id)

    def _new_job(self, state: str, attack: str) -> str | None:
        """Make a job in this state and return its id. None: the system takes no jobs, and has been emptied."""
        tokens = {"over": 2, "waiting": 4, "running": 60}[state]
        job = {"endpoint": CHAT, "body": chat(self._target.model, max_tokens=tokens), "metadata": {"a": "b"}}
        deadline = time.monotonic() + _ACCEPT_S
        while (reply := self._post(job)) is None or reply.status_code != 202:
            self._tally.note_ended(self._target.ended(), attack)
            if time.monotonic() > deadline:
                self._tally.fault("after a mutation", "no job is accepted any more", attack)
                self._redis.flushall()
                return None
            time.sleep(0.1)
        job_id = cast(str, reply.json()["id"])
        if state == "over":
            self._http.get(f"{JOBS}/{job_id}?wait=20")
        return job_id

    def _post(self, job: dict[str, Any]) -> httpx.Response | None:
        try:
            return self._http.post(JOBS, json=job)
        except httpx.TransportError:
            return None

    def _delete(self, group: str, example: str, job_id: str) -> None:
        """It must be gone afterwards, whatever it was."""
        reply = self._read(group, example, "DELETE", f"{JOBS}/{job_id}")
        if reply is None or reply.status == 404:
            return
        if reply.status != 200:
            self._tally.fault(group, f"DELETE gives {reply.status}", example)
        elif self._redis.exists(keys.job(job_id), keys.events(job_id), keys.job_request(job_id)):
            self._tally.fault(group, "DELETE leaves keys of the job", example)

    def _read(
        self,
        group: str,
        example: str,
        method: str,
        path: str,
        *,
        always: int | None = None,
        may_wait: bool = False,
        **headers: str,
    ) -> HttpReply | None:
        """Send a request. It may say that the job cannot be read, and must not fail."""
        route = f"{method} {_ID.sub('…', path.partition('?')[0])}"
        try:
            response = self._http.request(method, path, headers=headers, timeout=1 if may_wait else 30)
        except httpx.HTTPError as error:
            if not (may_wait and isinstance(error, httpx.ReadTimeout)):
                self._tally.fault(group, f"{route}: {type(error).__name__}", example)
            return None
        reply = HttpReply(response.status_code, dict(response.headers), response.content)
        refusal = reply.error if reply.status >= 400 else None
        code = refusal.get("code") if isinstance(refusal, dict) else None
        # A damaged job cannot be read or ended, but it is always shown, and can be deleted.
        may_be_damaged = method == "POST" or path.endswith("/events") or path.startswith(CHAT)
        is_refused = (reply.status == 503 and code in _UNREADABLE) or (may_be_damaged and code in _DAMAGED)
        wrong = None if is_refused else reply.wrong()
        if always is not None and reply.status != always:
            wrong = f"status {reply.status}, code {code}"
        if wrong:
            self._tally.fault(group, f"{route}: {wrong}", example)
        return reply

    # Keys that all jobs share

    def attack_shared(self, chance: random.Random, number: int) -> None:
        """Mutate a key that all jobs share, let everything run on it, then put it right."""
        key = chance.choice(self._shared_keys())
        saved = self._redis.dump(key)
        mutation = _mutate_key(chance, self._redis, key)
        group, example = f"shared: {_kind(key)}", f"{number}: {mutation}"
        time.sleep(_ROUNDS_S)
        self._tally.note_ended(self._target.ended(), example)
        for path in ("/metrics", "/v1/workers", "/v1/models", f"{JOBS}?limit=5", "/health/ready"):
            self._read_shared(group, example, path)
        before = self._health.answer(within_s=3.0)
        self._put_right(key, saved, keeps=before == self._health.expected)
        wrong = self._health.fault(within_s=30.0)
        self._tally.note_ended(self._target.ended(), example)
        if wrong:
            self._tally.fault(group, f"after the key was put right: {wrong}", example)
        self._tally.add(
            group, "serves on" if before == self._health.expected else "serves again once put right"
        )

    def _read_shared(self, group: str, example: str, path: str) -> None:
        """503 is honest here: the data of the whole system are damaged."""
        try:
            response = self._http.get(path)
        except httpx.HTTPError as error:
            return self._tally.fault(group, f"GET {path}: {type(error).__name__}", example)
        if response.status_code >= 500 and response.status_code != 503:
            self._tally.fault(group, f"GET {path}: status {response.status_code}", example)

    def _shared_keys(self) -> list[str]:
        instances = [
            name.decode(errors="replace") for name in cast(set[bytes], self._redis.smembers(keys.WORKERS))
        ]
        replicas = [
            name.decode(errors="replace") for name in cast(set[bytes], self._redis.smembers(keys.REPLICAS))
        ]
        model = self._target.model
        return [
            keys.ACTIVE, keys.DEADLINES, keys.OPEN, keys.ACCEPT_SEQ, keys.WORKERS, keys.REPLICAS,
            keys.MODELS, keys.NOTHING,
            keys.queued(model), keys.throughput(model), keys.broker_list(model),
            keys.owner_jobs(self._owner()),
            *(make(name) for name in instances for make in (keys.worker, keys.worker_jobs,
            keys.worker_report)),
            *(make(name) for name in replicas for make in (keys.replica, keys.replica_jobs)),
            f"{keys.PREFIX}unacked", f"{keys.PREFIX}unacked_index",
            f"{keys.PREFIX}_kombu.binding.{keys.wake_up_queue(model)}",
        ]  # fmt: skip

    def _owner(self) -> str:
        found = cast(list[bytes], list(self._redis.scan_iter(match=f"{keys.PREFIX}owner:*", count=1000)))
        return found[0].decode().split(":")[2] if found else "anonymous"

    def _put_right(self, key: str, saved: bytes | None, *, keeps: bool) -> None:
        """Restore a key, unless the system has gone on well with what it is now."""
        if keeps and self._redis.type(key) != b"none":
            return
        self._redis.delete(key)
        if saved is not None:
            self._redis.restore(key, 0, saved, replace=True)

    # The whole

    def check(self, attack: str) -> None:
        """After a batch: nothing has ended, other jobs go on, and the mutated ones can be removed."""
        time.sleep(_ROUNDS_S)
        self._tally.note_ended(self._target.ended(), attack)
        if wrong := self._health.fault():
            self._tally.fault("after a batch", wrong, attack)
        for path in ("/metrics", "/v1/workers", f"{JOBS}?limit=100"):
            self._read("after a batch", attack, "GET", path, always=200)
        for job_id in self._jobs:
            self._sweep(job_id)
        self._jobs.clear()

    def _sweep(self, job_id: str) -> None:
        """Remove what is left of a job, so that later attacks begin on a clean system."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.delete(keys.job(job_id), keys.job_request(job_id), keys.job_result(job_id), keys.events(job_id))
        for zset in (keys.ACTIVE, keys.queued(self._target.model), keys.owner_jobs(self._owner())):
            pipe.zrem(zset, job_id)
        pipe.zrem(
            keys.DEADLINES, *(f"{kind}:{job_id}" for kind in ("expires", "cancel", "paused", "retention"))
        )
        pipe.execute(raise_on_error=False)


def _shown(reply: HttpReply | None) -> str:
    """How `GET /v1/jobs/{id}` shows a mutated job."""
    if reply is None:
        return "no response"
    if reply.status != 200:
        return str(reply.status)
    return "unreadable" if json.loads(reply.body)["status"] == "unreadable" else "shown"


def _mutate_job(chance: random.Random, client: redis.Redis, job_id: str, model: str) -> Mutation:
    kinds: list[tuple[str, Callable[[], str]]] = [
        ("job", lambda: _mutate_hash(chance, client, keys.job(job_id))),
        ("job", lambda: _mutate_hash(chance, client, keys.job(job_id))),
        ("request", lambda: _mutate_hash(chance, client, keys.job_request(job_id))),
        ("request", lambda: _mutate_hash(chance, client, keys.job_request(job_id))),
        ("result", lambda: _mutate_string(chance, client, keys.job_result(job_id))),
        ("events", lambda: _mutate_stream(chance, client, keys.events(job_id))),
        ("events", lambda: _mutate_stream(chance, client, keys.events(job_id))),
        ("deadline", lambda: _add_members(chance, client, keys.DEADLINES, _deadline(chance, job_id))),
        ("queue entry", lambda: _add_members(chance, client, keys.queued(model), _member(chance, job_id))),
        ("active job", lambda: _add_members(chance, client, keys.ACTIVE, _member(chance, job_id))),
        ("other type", lambda: _other_type(chance, client, _job_key(chance, job_id))),
        ("worker", lambda: _alien(chance, client, keys.WORKERS, keys.worker)),
        ("replica", lambda: _alien(chance, client, keys.REPLICAS, keys.replica)),
    ]
    group, make = chance.choice(kinds)
    return Mutation(group, make())


def _job_key(chance: random.Random, job_id: str) -> str:
    return chance.choice((keys.job, keys.job_request, keys.job_result, keys.events))(job_id)


def _mutate_key(chance: random.Random, client: redis.Redis, key: str) -> str:
    """Mutate a key of whatever type."""
    kind = cast(bytes, client.type(key)).decode()
    if chance.random() < 0.35 or kind == "none":
        return _other_type(chance, client, key)
    match kind:
        case "hash":
            return _mutate_hash(chance, client, key)
        case "zset":
            return _add_members(chance, client, key, _member(chance, "job_AAAAAAAAAAAAAAAAAAAAAAAA"))
        case "set":
            client.sadd(key, _value(chance))
            return f"{key}: a strange member"
        case "list":
            client.lpush(key, _value(chance))
            return f"{key}: a strange item"
        case _:
            return _mutate_string(chance, client, key)


def _mutate_hash(chance: random.Random, client: redis.Redis, key: str) -> str:
    fields = cast(dict[bytes, bytes], client.hgetall(key))
    if not fields or chance.random() < 0.05:
        client.delete(key)
        return f"{key} is gone"
    name = chance.choice(sorted(fields))
    shown = name.decode(errors="replace")
    match chance.randrange(6):
        case 0:
            client.hdel(key, name)
            return f"{shown} is missing in {key}"
        case 1:
            client.hset(
                key, chance.choice((b"mood", b"", b"\xff", name + b"s", name.upper())), _value(chance)
            )
            return f"a strange field in {key}"
        case 2:
            text = damage(chance, fields[name])
        case 3 if fields[name][:1] in (b"{", b"["):
            text = _json_like(chance, fields[name])
        case _:
            text = _value(chance)
    client.hset(key, name, text)
    return f"{shown} = {text[:60]!r} in {key}"


def _mutate_string(chance: random.Random, client: redis.Redis, key: str) -> str:
    before = cast(bytes | None, client.get(key)) or b""
    is_json = before[:1] in (b"{", b"[")
    text = _json_like(chance, before) if is_json and chance.random() < 0.6 else _value(chance)
    client.set(key, text, keepttl=True)
    return f"{key} = {text[:60]!r}"


def _mutate_stream(chance: random.Random, client: redis.Redis, key: str) -> str:
    """Add an entry, remove one, or all."""
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], client.xrange(key))
    if not entries:
        return f"{key} is gone"
    last = entries[-1][0].decode()
    match chance.randrange(7):
        case 0:
            client.xdel(key, chance.choice(entries)[0])
            return f"an entry is missing in {key}"
        case 1:
            client.xtrim(key, maxlen=chance.choice((0, 1)))
            return f"{key} is trimmed"
        case 2:
            fields: dict[bytes, bytes] = {b"x": b"y"}
        case 3:
            event = json_text(chance, chance.choice(_EVENTS))
            fields = {b"end": entries[-1][1].get(b"end", b"0"), b"used": b"1,1,0,0", b"e": event}
        case _:
            fields = dict(entries[-1][1])
            name = chance.choice((b"end", b"used", b"e"))
            if chance.random() < 0.2:
                fields.pop(name, None)
            else:
                fields[name] = _value(chance)
    fence, _, count = last.partition("-")
    entry_id = chance.choice((f"{fence}-{int(count) + 1}", f"{int(fence) + 1}-0", f"{2**63}-{2**63}", "*"))
    try:
        client.xadd(key, cast(Any, fields or {b"x": b"y"}), id=entry_id)
    except redis.ResponseError:
        client.delete(key)
        return f"{key} is gone"
    return f"entry {entry_id} {str(fields)[:80]} in {key}"


def _add_members(chance: random.Random, client: redis.Redis, key: str, member: bytes) -> str:
    score = chance.choice((0.0, -1.0, 1.0, 1e18, float("inf"), float("-inf"), 0.5, time.time() * 1000))
    client.zadd(key, {member: score})
    return f"{member[:60]!r} at {score:g} in {key}"


def _deadline(chance: random.Random, job_id: str) -> bytes:
    kind = chance.choice(("expires", "cancel", "paused", "retention", "newkind", "", "expires:expires"))
    return chance.choice(
        (
            f"{kind}:{job_id}".encode(),
            kind.encode(),
            f"{kind}:".encode(),
            f"{kind}:".encode() + _value(chance),
        )
    )


def _member(chance: random.Random, job_id: str) -> bytes:
    return chance.choice((job_id.encode(), job_id.encode() + b"x", _value(chance), b"job_" + b"B" * 24, b""))


def _alien(chance: random.Random, client: redis.Redis, names: str, key_of: Callable[[str], str]) -> str:
    """A worker or a replica that nobody knows, with a lease of some fields, or none."""
    raw = chance.choice((b"alien.1", b"", b"\xff\xfe", b"a b", b"x" * 5000, b"alien:1", "é.1".encode()))
    client.sadd(names, raw)
    key = key_of(raw.decode(errors="replace"))
    sample = (
        b"name",
        b"model",
        b"host",
        b"pid",
        b"device",
        b"slots",
        b"exact",
        b"beat",
        b"stats",
        b"drain",
        b"revision",
    )
    fields = {name: _value(chance) for name in sample if chance.random() < 0.6}
    if fields and chance.random() < 0.8:
        client.delete(key)
        client.hset(key, mapping=cast(Any, fields))
    return f"{raw[:20]!r} in {names} with {sorted(fields)}"


def _other_type(chance: random.Random, client: redis.Redis, key: str) -> str:
    """The key with another of Redis's types."""
    before = cast(bytes, client.type(key)).decode()
    kind = chance.choice(
        [kind for kind in ("string", "list", "set", "zset", "hash", "stream") if kind != before]
    )
    # In one transaction, because the system writes its keys again.
    with client.pipeline() as pipe:
        pipe.delete(key)
        match kind:
            case "string":
                pipe.set(key, _value(chance))
            case "list":
                pipe.rpush(key, _value(chance))
            case "set":
                pipe.sadd(key, _value(chance))
            case "zset":
                pipe.zadd(key, {_value(chance): 1})
            case "hash":
                pipe.hset(key, "x", cast(Any, _value(chance)))
            case _:
                pipe.xadd(key, {"x": "y"})
        pipe.execute()
    return f"{key} is a {kind} instead of a {before}"


def _value(chance: random.Random) -> bytes:
    if chance.random() < 0.15:
        return chance.choice(STRINGS).encode("utf-8", "surrogatepass")
    return chance.choice(_VALUES)


def _json_like(chance: random.Random, raw: bytes) -> bytes:
    try:
        return json_text(chance, json.loads(raw))
    except ValueError:
        return damage(chance, raw)


def _kind(key: str) -> str:
    """A key's name without ids."""
    parts = key.removeprefix(keys.PREFIX).split(":")
    return ":".join(part for index, part in enumerate(parts) if index != 1 or len(parts) == 1) or key
