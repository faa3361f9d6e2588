"""JobReader: reads jobs, queues and workers from Redis. It changes nothing.

All methods raise StoreUnavailable when Redis does not answer, and DecodeError for data that cannot be decoded.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from shared.domain.events import Entry, Failed, decode_entry, decode_positions
from shared.domain.job import DeadlineKind, Job
from shared.domain.lease import WorkerState
from shared.domain.request_key import RequestKey
from shared.domain.result import Result
from shared.domain.usage import Usage
from shared.errors import DecodeError, ScriptFailed, require_text
from shared.store import keys, scripts
from shared.store.deadline import Deadline
from shared.store.questions import Questions
from shared.store.redis_client import reads_replies, unavailable_as_error
from shared.store.throughput import Throughput

logger = logging.getLogger(__name__)

#: Stream entries as redis-py returns them: id, fields.
_Found = list[tuple[str, dict[str, str]]]
#: Number of entries read at a time when going back through a stream: at first, and at most.
_FIRST_BACK, _MOST_BACK = 64, 1024


class Page(NamedTuple):
    """Consecutive entries of a job's stream."""

    entries: list[Entry]
    #: The stream's last entry when this was read. None: there is no stream.
    last: Entry | None
    #: Whether no entries follow these.
    is_end: bool


class Survey(NamedTuple):
    """What a reaper needs for one round."""

    #: All worker instances that have a lease.
    workers: list[WorkerState]
    #: Lease records that cannot be decoded, by worker instance.
    unreadable: dict[str, Mapping[str, str]]
    #: All models that a worker has ever registered.
    models: set[str]
    #: Ids of jobs that have not ended, oldest first.
    active: list[str]
    #: Deadlines that have passed by Redis's clock, earliest first.
    due: list[Deadline]
    #: API replicas that have a lease, with their heartbeats.
    replicas: dict[str, str]


class UnreadableJob(NamedTuple):
    """A job whose record this version cannot decode."""

    id: str


class _Look(NamedTuple):
    """What the script `look` returns for one job."""

    fields: dict[str, str]
    last_id: str
    last: dict[str, str]
    result: str

    def job(self) -> Job:
        """Decode the job. Raises DecodeError, but not for a last event of a newer version."""
        error = None
        if self.fields.get("status") == "failed":
            event = decode_entry(self.last_id, self.last).event
            error = event.error if isinstance(event, Failed) else None
        return Job.decode(self.fields, _end(self.last), Usage.decode(self.last.get("used", "")), error)

    def stored_result(self) -> Result | None:
        """Return the stored result. None also for a result of a newer version: the stream has the same output."""
        try:
            return Result.decode(self.result) if self.result else None
        except DecodeError as error:
            logger.warning("%s: %s", self.fields["id"], error)
            return None


@reads_replies
class JobReader:
    """Reads the jobs in one Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.questions = Questions(redis)
        self._look: AsyncScript = redis.register_script(scripts.source("look"))
        self._survey: AsyncScript = redis.register_script(scripts.source("survey"))

    # Jobs

    async def get(self, job_id: str) -> Job | None:
        """Return the job with its request, or None if there is no such job. Raises DecodeError."""
        (found,) = await self._look_at("whole", [job_id])
        return None if found is None else found.job()

    async def get_with_result(self, job_id: str) -> tuple[Job, Result | None] | None:
        """Return the job without its request, and the stored result of a job that has ended.

        There is no stored result if it was too large, or if it was not a worker that ended the job. Raises DecodeError.
        """
        (found,) = await self._look_at("result", [job_id])
        if found is None:
            return None
        job = found.job()
        return job, found.stored_result() if job.is_terminal else None

    async def get_many(self, job_ids: Sequence[str]) -> list[Job | UnreadableJob | None]:
        """Return the jobs in the order of their ids, without their requests. None: there is no such job."""
        jobs: list[Job | UnreadableJob | None] = []
        try:
            looks = await self._look_at("brief", job_ids)
        except ScriptFailed:
            if len(job_ids) == 1:
                return [UnreadableJob(job_ids[0])]
            return [job for job_id in job_ids for job in await self.get_many([job_id])]
        for job_id, found in zip(job_ids, looks, strict=True):
            try:
                jobs.append(None if found is None else found.job())
            except DecodeError as error:
                logger.warning("%s: %s", job_id, error)
                jobs.append(UnreadableJob(job_id))
        return jobs

    async def _look_at(
        self, how: Literal["result", "whole", "brief"], job_ids: Sequence[str]
    ) -> list[_Look | None]:
        if not job_ids:
            return []
        with unavailable_as_error():
            found = await cast(Awaitable[list[Any]], self._look(args=[how, *job_ids]))
        return [
            _Look(_dict(record) | _dict(bulk), last[0][0], _dict(last[0][1]), result or "")
            if record and bulk and last
            else None
            for record, bulk, last, result in found
        ]

    async def list_ids(self, owner: str, *, before: str | None, limit: int) -> list[str] | None:
        """Return an owner's jobs that are older than `before`, newest first. None: `before` is not the owner's job."""
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
        """Return the job's owner, also if its stream is gone. None: there is no such job."""
        with unavailable_as_error():
            return await cast(Awaitable[str | None], self._redis.hget(keys.job(job_id), "owner"))

    async def owns(self, owner: str, job_id: str) -> bool:
        """Whether the job is in the owner's list. True also for a job whose record is no record."""
        score = await self._redis.zscore(keys.owner_jobs(owner), job_id)
        return score is not None

    async def is_known(self, key: RequestKey) -> bool:
        """Whether the key is bound to a job."""
        with unavailable_as_error():
            return bool(await self._redis.exists(keys.idempotency(key.name)))

    # Streams

    async def entries(self, job_id: str) -> list[Entry]:
        """Return all entries of the job's stream. Empty if there is no stream."""
        with unavailable_as_error():
            found = cast(_Found, await self._redis.xrange(keys.events(job_id)))
        return [decode_entry(stream_id, fields) for stream_id, fields in found]

    async def page(self, job_id: str, *, after: str | None, limit: int) -> Page:
        """Return the first entries after a stream id, or from the start of the stream.

        If Redis has lost the end of its file, an id may now belong to a different entry. The caller must check whether
        the page continues what it has read.
        """
        key = keys.events(job_id)
        with unavailable_as_error():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.xrange(key, min="-" if after is None else f"({after}", count=limit)
                pipe.xrevrange(key, count=1)
                found, last = cast(list[_Found], await pipe.execute())
        return _page(found, last, is_end=len(found) < limit)

    async def page_back_to(self, job_id: str, positions: tuple[int, ...], *, limit: int) -> Page:
        """Return the first entries from the last entry on that lies at or before `positions` in every choice.

        Everything that a reader at `positions` has not seen is at or after that entry, even if stream ids have changed.
        """
        newest_first: deque[tuple[str, dict[str, str]]] = deque(maxlen=limit)
        last: _Found = []
        num_read, before, count = 0, "+", _FIRST_BACK
        while True:
            with unavailable_as_error():
                reply = await self._redis.xrevrange(keys.events(job_id), max=before, count=count)
            found = cast(_Found, reply)
            last = last or found[:1]
            for stream_id, fields in found:
                newest_first.append((stream_id, fields))
                num_read += 1
                if _is_at_or_before(fields, positions):
                    return _page([*newest_first][::-1], last, is_end=num_read <= limit)
            if len(found) < count:
                return _page([*newest_first][::-1], last, is_end=num_read <= limit)
            before, count = f"({found[-1][0]}", min(2 * count, _MOST_BACK)

    async def last_entries(self, job_ids: Sequence[str]) -> list[Entry | DecodeError | None]:
        """Return the last entry of each stream, in the order of the ids.

        None: there is no stream. DecodeError: the entry cannot be decoded.
        """
        try:
            with unavailable_as_error():
                async with self._redis.pipeline(transaction=False) as pipe:
                    for job_id in job_ids:
                        pipe.xrevrange(keys.events(job_id), count=1)
                    replies = cast(list[_Found], await pipe.execute())
        except ScriptFailed:
            if len(job_ids) == 1:
                return [DecodeError("stream", job_ids[0])]
            return [last for job_id in job_ids for last in await self.last_entries([job_id])]
        return [_entry_or_error(*found[0]) if found else None for found in replies]

    # Queues

    async def queue_positions(self, jobs: Iterable[tuple[str, str]]) -> list[int | None]:
        """Return how many jobs are queued before each (model, job id). None: the job is not queued."""
        with unavailable_as_error():
            async with self._redis.pipeline(transaction=False) as pipe:
                for model, job_id in jobs:
                    pipe.zrank(keys.queued(model), job_id)
                return cast(list[int | None], await pipe.execute())

    async def num_queued(self, model: str) -> int:
        """Return how many jobs are queued for this model."""
        with unavailable_as_error():
            return await self._redis.zcard(keys.queued(model))

    async def first_queued(self, model: str) -> str | None:
        """Return the first job of a model's queue."""
        with unavailable_as_error():
            head = await cast(Awaitable[list[str]], self._redis.zrange(keys.queued(model), 0, 0))
        return head[0] if head else None

    async def pace(self, model: str) -> Throughput:
        """Return how fast the model's jobs were finished in the last minutes."""
        with unavailable_as_error():
            seconds, _ = await self._redis.time()
            record = await cast(Awaitable[dict[str, str]], self._redis.hgetall(keys.throughput(model)))
        return Throughput.decode(record, seconds)

    # Workers

    async def survey(self, *, first: int = 0, limit: int) -> Survey:
        """Read what a reaper needs for one round, in one atomic call.

        Returns up to `limit` active jobs from rank `first` on, and up to `limit` deadlines.
        """
        with unavailable_as_error():
            found = await cast(
                Awaitable[list[Any]], self._survey(args=[first, limit, limit, *get_args(DeadlineKind)])
            )
        workers, models, active, due, replicas = found
        readable, unreadable = _leases((name, _dict(lease), jobs) for name, lease, jobs in sorted(workers))
        return Survey(readable, unreadable, set(models), active, _deadlines(_dict(due)), dict(replicas))

    async def workers(self) -> list[WorkerState]:
        """Return all worker instances that have a lease."""
        with unavailable_as_error():
            names = sorted(await cast(Awaitable[set[str]], self._redis.smembers(keys.WORKERS)))
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hgetall(keys.worker(name))
                    pipe.hlen(keys.worker_jobs(name))
                replies = await pipe.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
                    raise reply
        # A key of another type counts as an empty record, which is unreadable.
        records = [{} if isinstance(reply, Exception) else reply for reply in replies[::2]]
        jobs = [0 if isinstance(reply, Exception) else reply for reply in replies[1::2]]
        return _leases(zip(names, records, jobs, strict=True))[0]

    async def models(self) -> set[str]:
        """Return all models that a worker has ever registered."""
        with unavailable_as_error():
            found = await cast(Awaitable[set[str]], self._redis.smembers(keys.MODELS))
        return {name for name in found if _is_text(name)}

    async def model_times(self) -> dict[str, int]:
        """Return when a worker first registered each model, in ms since the epoch."""
        with unavailable_as_error():
            found = await cast(Awaitable[dict[str, str]], self._redis.hgetall(keys.MODEL_TIMES))
        return {model: int(time) for model, time in found.items() if time.isdecimal()}

    async def ping(self) -> None:
        """Raise StoreUnavailable if Redis does not answer."""
        with unavailable_as_error():
            await self._redis.ping()


def _is_text(name: str) -> bool:
    """Whether a name was read from bytes that are text."""
    try:
        require_text({"name": name})
    except UnicodeEncodeError:
        return False
    return True


def _leases(
    found: Iterable[tuple[str, Mapping[str, str], int]],
) -> tuple[list[WorkerState], dict[str, Mapping[str, str]]]:
    """Return the leases that can be decoded, and the records of those that cannot."""
    readable: list[WorkerState] = []
    unreadable: dict[str, Mapping[str, str]] = {}
    for name, record, jobs in found:
        try:
            readable.append(WorkerState.decode(name, record, jobs))
        except DecodeError as error:
            logger.warning("skipping the lease of %r: %s", name, error)
            unreadable[name] = record
    return readable, unreadable


def _deadlines(found: Mapping[str, str]) -> list[Deadline]:
    """Return the deadlines of kinds that this version knows."""
    known: list[Deadline] = []
    for member, score in found.items():
        try:
            known.append(Deadline.decode(member, float(score)))
        except DecodeError:
            logger.warning("skipping a deadline of an unknown kind")
    return known


def _dict(flat: Sequence[str]) -> dict[str, str]:
    """Convert a script's list of alternating fields and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _entry_or_error(stream_id: str, fields: dict[str, str]) -> Entry | DecodeError:
    try:
        return decode_entry(stream_id, fields)
    except DecodeError as error:
        return error


def _page(found: _Found, last: _Found, *, is_end: bool) -> Page:
    entries = [decode_entry(*one) for one in found]
    newest = decode_entry(*last[0]) if last else None
    is_last = bool(entries) and newest is not None and entries[-1].id == newest.id
    return Page(entries, newest, is_end or is_last)


def _is_at_or_before(fields: Mapping[str, str], positions: tuple[int, ...]) -> bool:
    """Raise DecodeError for an entry with another number of choices."""
    end = _end(fields)
    if len(end) != len(positions):
        raise DecodeError("stream entry", fields)
    return all(have >= there for have, there in zip(positions, end, strict=True))


def _end(fields: Mapping[str, str]) -> tuple[int, ...]:
    return decode_positions(fields.get("end", ""))
