"""JobStore: jobs, their queues and their streams in Redis. Each method that changes something is one script.

Every script may be called again when its reply was lost (redis-py does so by itself): see scripts/*.lua.
All methods raise StoreUnavailable when Redis does not answer or refuses to write.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Literal, cast, get_args

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from shared import keys, scripts
from shared.append import Append, AppendAnswer
from shared.bell import Bell
from shared.deadline import Deadline
from shared.errors import ErrorInfo
from shared.events import (
    Cancelled,
    CancelReason,
    Entry,
    Expired,
    Failed,
    RequeueReason,
    decode_entry,
    decode_positions,
    encode_event,
    encode_positions,
)
from shared.job import Job, JobStatus, NewJob, Priority
from shared.lease import BeatAnswer, Lease, WorkerState
from shared.redis_client import unavailable_as_error
from shared.worker_report import WorkerReport

#: Stream entries as redis-py returns them: id, fields.
_Found = list[tuple[str, dict[str, str]]]

#: A queued job's score is its class times the span, as in create.lua, plus its creation in ms.
PRIORITY_CLASS: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}
PRIORITY_SPAN = 10**13


class JobStore:
    """The jobs in one Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts: dict[str, AsyncScript] = {
            name: redis.register_script(scripts.source(name)) for name in get_args(scripts.ScriptName)
        }

    async def _call(self, name: scripts.ScriptName, *args: str | int | float) -> Any:
        with unavailable_as_error():
            return await cast(Awaitable[Any], self._scripts[name](args=args))

    # Accepting and reading jobs

    async def create(self, job: NewJob) -> float:
        """Accept a job; when its id exists already, nothing is changed. Answers when it was accepted."""
        deadlines = {
            "expires": job.expires_after_s,
            "cancel": job.cancel_after_s,
            "reader": job.reader_grace_s if job.on_disconnect == "cancel" else None,
        }
        record: dict[str, str | int] = {
            "endpoint": job.endpoint,
            "body": json.dumps(job.body, separators=(",", ":")),
            "n": job.n,
            "priority": job.priority,
            "on_disconnect": job.on_disconnect,
            "metadata": json.dumps(dict(job.metadata)),
        }
        answer = await self._call(
            "create",
            job.id,
            job.model,
            job.owner,
            PRIORITY_CLASS[job.priority],
            encode_positions((0,) * job.n),
            json.dumps({kind: _ms(after) for kind, after in deadlines.items() if after is not None}),
            _ms(job.retention_s),
            *_pairs(record),
        )
        return int(answer) / 1000

    async def get(self, job_id: str) -> Job | None:
        """The job, or None when there is none (any more)."""
        return (await self.get_many([job_id]))[0]

    async def get_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        """The jobs in the order of their ids, None for each that is not there."""
        with unavailable_as_error():
            async with self._redis.pipeline(transaction=True) as pipe:
                for job_id in job_ids:
                    pipe.hgetall(keys.job(job_id))
                    pipe.xrevrange(keys.events(job_id), count=1)
                replies = await pipe.execute()
        jobs = zip(replies[::2], replies[1::2], strict=True)
        return [_job(record, decode_entry(*last[0])) if record and last else None for record, last in jobs]

    async def list_ids(self, owner: str, *, before: str | None, limit: int) -> list[str] | None:
        """An owner's jobs, newest first, those older than `before`; None when `before` is not the owner's."""
        key = keys.owner_jobs(owner)
        with unavailable_as_error():
            first = 0
            if before is not None:
                rank = await cast(Awaitable[int | None], self._redis.zrevrank(key, before))
                if rank is None:
                    return None
                first = rank + 1
            return await cast(Awaitable[list[str]], self._redis.zrevrange(key, first, first + limit - 1))

    async def owner(self, job_id: str) -> str | None:
        """Whose job it is, also when its stream is gone already; None when there is no such job."""
        with unavailable_as_error():
            return await cast(Awaitable[str | None], self._redis.hget(keys.job(job_id), "owner"))

    async def queue_position(self, job: Job) -> int | None:
        """How many jobs of its model come first; None when it does not wait."""
        with unavailable_as_error():
            return await cast(Awaitable[int | None], self._redis.zrank(keys.queued(job.model), job.id))

    async def entries(self, job_id: str) -> list[Entry]:
        """The job's stream; empty when the stream is not there."""
        with unavailable_as_error():
            found = cast(_Found, await self._redis.xrange(keys.events(job_id)))
        return [decode_entry(stream_id, fields) for stream_id, fields in found]

    async def last_entries(self, job_ids: Sequence[str]) -> list[Entry | None]:
        """The last entry of each stream, in the order of the ids; None for a stream that is not there."""
        with unavailable_as_error():
            async with self._redis.pipeline(transaction=False) as pipe:
                for job_id in job_ids:
                    pipe.xrevrange(keys.events(job_id), count=1)
                replies = cast(list[_Found], await pipe.execute())
        return [decode_entry(*found[0]) if found else None for found in replies]

    async def entries_until(self, job_id: str, positions: tuple[int, ...]) -> list[Entry]:
        """The end of the job's stream: back to an entry that lies at or before `positions` in every choice.

        What a reader that holds `positions` misses is in it, whatever became of stream ids it has seen.
        """
        newest_first: list[Entry] = []
        last = "+"
        while True:
            with unavailable_as_error():
                reply = await self._redis.xrevrange(keys.events(job_id), max=last, count=_PAGE)
            found = cast(_Found, reply)
            for stream_id, fields in found:
                newest_first.append(decode_entry(stream_id, fields))
                if all(have >= end for have, end in zip(positions, newest_first[-1].end, strict=True)):
                    return newest_first[::-1]
            if len(found) < _PAGE:
                return newest_first[::-1]
            last = f"({found[-1][0]}"

    # The life of a running job

    async def claim(self, lease: Lease, holder: str) -> Job | Literal["empty", "wait", "unknown"]:
        """Take the first job of the lease's model that this worker may take; the same one for the same word.

        `wait`: a job must run alone first. `unknown`: the lease is gone, the worker has to begin anew.
        """
        answer = await self._call("claim", lease.model, lease.incarnation, holder, lease.model_revision)
        if answer[0] != "job":
            return cast(Literal["empty", "wait", "unknown"], answer[0])
        record = dict(zip(answer[1][::2], answer[1][1::2], strict=True))
        return Job.decode(record, decode_positions(record["claim_end"]))

    async def append(self, incarnation: str, batch: Sequence[Append]) -> list[AppendAnswer]:
        """Write what became final for several jobs in one call; one answer for each."""
        args = [part for entry in batch for part in entry.args()]
        answers = await self._call("append", incarnation, *args)
        return [AppendAnswer.decode(*answer) for answer in answers]

    async def requeue(self, job_id: str, holder: str, reason: RequeueReason, *, died: bool = False) -> str:
        """Take a running job from the holder that was seen: `requeued`,
        `failed` (died too often) or `not yours`."""
        return cast(str, await self._call("requeue", job_id, holder, reason, int(died)))

    async def cancel(
        self, job_id: str, reason: CancelReason, *, seen: Deadline | None = None
    ) -> JobStatus | None:
        """End a job that is not over; answers its status, None for no such job. Idempotent.

        With `seen` only if that deadline still stands as it was seen.
        """
        return await self._close(job_id, "cancelled", Cancelled(reason), reason, seen)

    async def expire(self, job_id: str, *, seen: Deadline | None = None) -> JobStatus | None:
        """End a job that was not started in time; one that was goes on."""
        return await self._close(job_id, "expired", Expired(), "", seen)

    async def fail(self, job_id: str, error: ErrorInfo) -> JobStatus | None:
        """End a job that cannot be finished, whoever has it."""
        return await self._close(job_id, "failed", Failed(error), "", None)

    async def _close(
        self,
        job_id: str,
        status: str,
        event: Cancelled | Expired | Failed,
        reason: str,
        seen: Deadline | None,
    ) -> JobStatus | None:
        deadline = ("", "") if seen is None else (seen.member, str(seen.due_ms))
        answer = await self._call("cancel", job_id, status, reason, encode_event(event), *deadline)
        return None if answer == "unknown" else cast(JobStatus, answer)

    # Workers

    async def register(self, lease: Lease) -> None:
        """Begin a lease. Claims are answered only under one."""
        fields: dict[str, str | int] = {
            "name": lease.name,
            "host": lease.host,
            "pid": lease.pid,
            "device": lease.device,
            "slots": lease.slots,
            "revision": lease.model_revision,
            "exact": int(lease.is_exact),
        }
        await self._call("register", lease.incarnation, lease.model, *_pairs(fields))

    async def beat(
        self,
        incarnation: str,
        *,
        steps: int,
        bells: int,
        running: Mapping[str, str],
        stats: Mapping[str, Any],
        report: WorkerReport | None = None,
    ) -> BeatAnswer | None:
        """A sign of life, with the holder word of each running job.

        Answers None when the incarnation was reaped and has to begin anew.
        """
        answer = await self._call(
            "beat",
            incarnation,
            steps,
            bells,
            json.dumps(dict(stats)),
            "" if report is None else report.encode(),
            *_pairs(running),
        )
        if answer[0] == "unknown":
            return None
        strays = dict(zip(answer[1::2], answer[2::2], strict=True))
        return BeatAnswer(strays, is_draining=answer[0] == "drain")

    async def drain(self, incarnation: str) -> bool:
        """Tell a worker to leave in order; False when it is not there (any more)."""
        return bool(await self._call("drain", incarnation) == "ok")

    async def release(self, incarnation: str, reason: RequeueReason, *, died: bool) -> list[Bell]:
        """End a lease: its jobs wait again. Answers the bells to ring."""
        return _bells(await self._call("release", incarnation, reason, int(died)))

    async def workers(self) -> list[WorkerState]:
        """Every incarnation that holds a lease."""
        with unavailable_as_error():
            names = sorted(await cast(Awaitable[set[str]], self._redis.smembers(keys.WORKERS)))
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hgetall(keys.worker(name))
                    pipe.hlen(keys.worker_jobs(name))
                replies = await pipe.execute()
        found = zip(names, replies[::2], replies[1::2], strict=True)
        return [WorkerState.decode(name, record, jobs) for name, record, jobs in found if record]

    async def models(self) -> set[str]:
        """Every model that a worker has ever registered."""
        with unavailable_as_error():
            return await cast(Awaitable[set[str]], self._redis.smembers(keys.MODELS))

    # What the reaper and the relay need

    async def num_queued(self, model: str) -> int:
        """Jobs that wait for a worker of this model."""
        with unavailable_as_error():
            return await self._redis.zcard(keys.queued(model))

    async def first_queued(self, model: str) -> str | None:
        """The job at the head of a model's queue."""
        with unavailable_as_error():
            head = await cast(Awaitable[list[str]], self._redis.zrange(keys.queued(model), 0, 0))
        return head[0] if head else None

    async def active_ids(self, *, first: int, limit: int) -> list[str]:
        """Jobs that are not terminal, oldest first, from rank `first` on."""
        with unavailable_as_error():
            return await cast(Awaitable[list[str]], self._redis.zrange(keys.ACTIVE, first, first + limit - 1))

    async def audit(self, job_ids: Sequence[str]) -> list[Bell]:
        """Mend active jobs that no queue and no living worker has. Answers the bells to ring."""
        return _bells(await self._call("audit", *job_ids))

    async def due(self, *, limit: int) -> list[Deadline]:
        """Deadlines that have passed by Redis's clock, the longest first."""
        with unavailable_as_error():
            seconds, micros = await self._redis.time()
            found = await cast(
                Awaitable[list[tuple[str, float]]],
                self._redis.zrangebyscore(
                    keys.DEADLINES, "-inf", seconds * 1000 + micros // 1000, 0, limit, withscores=True
                ),
            )
        return [Deadline.decode(member, score) for member, score in found]

    async def renew_readers(self, job_ids: Iterable[str], *, grace_s: float) -> None:
        """Say that these jobs have readers."""
        await self._call("renew", _ms(grace_s), *job_ids)

    async def forget(self, job_id: str) -> None:
        """Remove a job that is over, with its stream."""
        await self._call("forget", job_id)

    async def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        with unavailable_as_error():
            await self._redis.ping()


#: Entries read at a time on the way back through a stream.
_PAGE = 64


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _job(record: Mapping[str, str], last: Entry) -> Job:
    return Job.decode(record, last.end, last.event.error if isinstance(last.event, Failed) else None)


def _pairs(fields: Mapping[str, str | int]) -> list[str | int]:
    return [part for pair in fields.items() for part in pair]


def _bells(answer: list[str]) -> list[Bell]:
    return [Bell(job_id, model) for job_id, model in zip(answer[::2], answer[1::2], strict=True)]
