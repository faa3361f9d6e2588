"""The Celery fuzzer: messages that no Baton has sent, in the broker of a running system."""

from __future__ import annotations

import base64
import json
import pickle
import random
import time
import zlib
from pathlib import Path
from typing import Any

from shared.store import keys
from tests.fuzz.garbage import RAW_JSON, change, damage, value
from tests.fuzz.tally import Budget, Tally
from tests.fuzz.target import Health, Target

_BATCH = 20
_TYPES = (
    "application/json", "application/x-python-serialize", "application/data", "application/x-yaml",
    "application/x-msgpack", "text/plain",
    "", "x", None, 7, "application/json; charset=x",
)  # fmt: skip
_ENCODINGS = ("utf-8", "binary", "utf-16", "x", "", None, 7)
_TASKS = (
    keys.WAKE_UP_TASK,
    "celery.backend_cleanup",
    "celery.chord_unlock",
    "celery.map",
    "x",
    "",
    None,
    7,
    "os.system",
    "a" * 10_000,
)
_COMPRESSIONS = ("application/x-gzip", "application/x-bz2", "zstd", "x", "", None)


class _Marks:
    """Writes a file when it is unpickled, which must never happen."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def run(target: Target, seed: int, budget: Budget, tally: Tally, home: Path) -> None:
    """Send messages until the budget is used up. `home`: a directory for the mark that unpickling would leave."""
    health = Health(target)
    mark = home / "unpickled"
    number = 0
    while budget.is_left(number):
        chance = random.Random(f"{seed}/{number}")
        group = _send(chance, target, mark, f"{seed}/{number}")
        tally.add(group, "sent")
        number += 1
        if number % _BATCH == 0 or not budget.is_left(number):
            _check(target, health, tally, mark, f"messages up to {number}")
    health.close()


def _check(target: Target, health: Health, tally: Tally, mark: Path, attack: str) -> None:
    """The queue is drained, jobs are answered, and nothing was unpickled."""
    if wrong := health.fault(within_s=30):
        tally.fault("after a batch", wrong, attack)
    tally.note_ended(target.ended(), attack)
    left = _wait_until_empty(target)
    if left:
        tally.fault("after a batch", "messages stay in the queue", f"{attack}: {left} left")
        target.redis.delete(keys.broker_list(target.model))
    if mark.exists():
        tally.fault("after a batch", "a message was unpickled", attack)
        mark.unlink()


def _wait_until_empty(target: Target) -> int:
    deadline = time.monotonic() + 20
    while left := target.redis.llen(keys.broker_list(target.model)):
        if time.monotonic() > deadline:
            return int(str(left))
        time.sleep(0.05)
    return 0


def _send(chance: random.Random, target: Target, mark: Path, name: str) -> str:
    """Put one message into the broker; return its group."""
    queue = keys.broker_list(target.model)
    match chance.randrange(10):
        case 0:
            target.redis.lpush(
                queue, chance.choice((*RAW_JSON, b"", b"null", b"7", b"x" * 1_000_000, chance.randbytes(50)))
            )
            return "items that are no messages"
        case 1:
            target.redis.lpush(queue, damage(chance, json.dumps(message(target.model, name)).encode()))
            return "damaged messages"
        case 2:
            target.redis.lpush(queue, json.dumps(change(chance, message(target.model, name))))
            return "changed envelopes"
        case 3:
            target.redis.publish(f"{keys.PREFIX}/0.celery.pidbox", _control(chance, target.model))
            return "control messages"
        case 4:
            _send_unacked(chance, target, name)
            return "unacknowledged messages"
        case 5:
            found = message(target.model, name)
            found["body"] = base64.b64encode(pickle.dumps((_Marks(mark), {}, {}))).decode()
            found["content-type"] = chance.choice(("application/x-python-serialize", "application/json"))
            target.redis.lpush(queue, json.dumps(found))
            return "pickled bodies"
        case 6:
            found = message(target.model, name)
            found["headers"] |= {"compression": chance.choice(_COMPRESSIONS)}
            found["body"] = base64.b64encode(
                zlib.compress(b"[[],{},{}]" * chance.choice((1, 100_000)))
            ).decode()
            target.redis.lpush(queue, json.dumps(found))
            return "compressed bodies"
        case 7:
            found = message(target.model, name)
            found["content-type"], found["content-encoding"] = (
                chance.choice(_TYPES),
                chance.choice(_ENCODINGS),
            )
            target.redis.lpush(queue, json.dumps(found))
            return "content types and encodings"
        case 8:
            found = message(target.model, name)
            found["headers"] = change(chance, found["headers"])
            if isinstance(found["headers"], dict) and chance.random() < 0.4:
                found["headers"]["task"] = chance.choice(_TASKS)
            target.redis.lpush(queue, json.dumps(found))
            return "headers and task names"
        case _:
            body = change(
                chance,
                [
                    ["job_AAAAAAAAAAAAAAAAAAAAAAAA"],
                    {},
                    {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
                ],
            )
            target.redis.lpush(queue, json.dumps(message(target.model, name, body)))
            return "arguments"


def message(model: str, name: str, body: Any = None) -> dict[str, Any]:
    """What kombu stores for a wake-up."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = [["job_AAAAAAAAAAAAAAAAAAAAAAAA"], {}, embed] if body is None else body
    queue = keys.wake_up_queue(model)
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py", "task": keys.WAKE_UP_TASK, "id": name, "shadow": None, "eta": None,
            "expires": None, "group": None,
            "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": name,
            "parent_id": None, "argsrepr": "()",
            "kwargsrepr": "{}", "origin": "fuzz", "ignore_result": True, "replaced_task_nesting": 0,
            "stamped_headers": None, "stamps": {},
        },
        "properties": {
            "correlation_id": name, "reply_to": "x", "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0, "body_encoding": "base64", "delivery_tag": f"tag-{name}",
        },
    }  # fmt: skip


def _send_unacked(chance: random.Random, target: Target, name: str) -> None:
    """As if a worker had taken it long ago and died: kombu restores it."""
    stored: Any = [message(target.model, name), "", keys.wake_up_queue(target.model)]
    raw = (
        damage(chance, json.dumps(stored).encode())
        if chance.random() < 0.5
        else json.dumps(change(chance, stored)).encode()
    )
    target.redis.hset(f"{keys.PREFIX}unacked", f"tag-{name}", raw)
    target.redis.zadd(f"{keys.PREFIX}unacked_index", {f"tag-{name}": 1.0})


def _control(chance: random.Random, model: str) -> bytes:
    """A broadcast to all workers, as `celery control` and Flower send it, changed."""
    body = {
        "method": chance.choice(("ping", "rate_limit", "revoke", "stats", "x", "", None, 7)),
        "arguments": value(chance),
        "destination": None,
    }
    found = message(model, "control")
    found["headers"] = {"clock": chance.choice((1, "x", None)), "expires": chance.choice((None, 1, "x"))}
    found["body"] = base64.b64encode(json.dumps(change(chance, body)).encode()).decode()
    raw = json.dumps(found).encode()
    return damage(chance, raw) if chance.random() < 0.5 else raw
