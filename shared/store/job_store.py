"""JobStore: changes jobs, queues and streams in Redis. Each change is one script.

Every script may be called again if its reply was lost, which redis-py does by itself. See scripts/*.lua.
All methods raise StoreUnavailable when Redis does not answer or refuses a write.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from shared.domain.events import (
    Cancelled,
    Expired,
    Failed,
    decode_positions,
    encode_event,
    encode_positions,
)
from shared.domain.job import Accepted, CancelReason, Job, NewJob, Priority, RequeueReason
from shared.domain.lease import BeatAnswer, Lease
from shared.domain.request import READER_VERSION
from shared.domain.request_key import RequestKey
from shared.domain.wake_up import WakeUp
from shared.domain.worker_report import WorkerReport
from shared.errors import ErrorInfo, KeyReused, StorageFull, TooManyJobs
from shared.store import scripts
from shared.store.append import Append, AppendAnswer
from shared.store.deadline import Deadline
from shared.store.job_reader import JobReader
from shared.store.queue_score import PRIORITY_SPAN, PROMOTED_AFTER_S, class_offset
from shared.store.redis_client import reads_replies, unavailable_as_error

#: Maximum number of registrations of a dead replica that one call ends.
_LEFT_AT_ONCE = 200
#: Maximum number of jobs of one model and class that one call promotes.
_PROMOTED_AT_ONCE = 500


#: How late a `create` may run after its caller has given it up: Redis may still have it in a socket's buffer.
_LATEST_CREATE_S = 60.0


class Served(NamedTuple):
    """What the workers of one model can serve."""

    revisions: frozenset[str]
    #: The newest version of stored requests that any of them reads.
    reads: int


class Reader(NamedTuple):
    """An API replica that reads a job for at least one client."""

    replica: str
    #: The number of its join, which always increases. A leave with another number changes nothing.
    seq: int


class Joined(NamedTuple):
    """The result of `join`."""

    #: `unknown`: the replica has no lease. `gone`: there is no such job. `over`: the job has ended. `joined` and
    #: `resumed`: the replica is registered, and a `resumed` job was paused before.
    status: Literal["unknown", "gone", "over", "joined", "resumed"]
    #: The wake-up to send for a job that was paused.
    wake_up: WakeUp | None = None


class Limits(NamedTuple):
    """What `create` refuses to go beyond."""

    #: Jobs of one owner that have not ended.
    open_jobs: int
    #: Bytes that the jobs of one owner take, ended ones included.
    owner_bytes: int
    #: The same of all owners.
    all_bytes: int


NO_LIMITS = Limits(10**15, 10**15, 10**15)


class ReplicaBeat(NamedTuple):
    """The result of `beat_replica`."""

    #: Registered jobs that the replica does not read, with the numbers of their joins.
    strays: dict[str, int]
    #: Jobs that the replica reads and that are not registered, or are paused.
    missing: list[str]


@reads_replies
class JobStore(JobReader):
    """Reads and changes the jobs in one Redis."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self._scripts: dict[str, AsyncScript] = {
            name: redis.register_script(scripts.source(name)) for name in get_args(scripts.ScriptName)
        }

    async def _call(self, name: scripts.ScriptName, *args: str | int | float) -> Any:
        with unavailable_as_error():
            return await cast(Awaitable[Any], self._scripts[name](args=args))

    # Accepting jobs

    async def create(
        self, job: NewJob, *, limits: Limits = NO_LIMITS, reader: Reader | None = None
    ) -> Accepted:
        """Accept a job. Returns the existing job if its id exists, or if its key already created a job.

        `reader` is registered from the first event on, if its replica has a lease. Raises KeyReused, and TooManyJobs
        or StorageFull at a limit.
        """
        deadlines = {
            "expires": job.expires_after_s,
            "cancel": job.cancel_after_s,
            "paused": job.reader_grace_s if job.on_disconnect == "pause" else None,
        }
        bulk = job.bulk()
        key = ("", "") if job.key is None else (job.key.name, job.key.fingerprint)
        answer = await self._call(
            "create",
            job.id,
            job.model,
            job.owner,
            class_offset(job.priority),
            encode_positions((0,) * job.request.num_choices),
            json.dumps({kind: _ms(after) for kind, after in deadlines.items() if after is not None}),
            _ms(job.retention_s),
            *key,
            *limits,
            *(bulk[name] for name in ("request", "view", "metadata")),
            *(reader or ("", "")),
            *_pairs(job.record()),
        )
        if answer[0] == "full":
            raise TooManyJobs if answer[1] == "jobs" else StorageFull(of_owner=answer[1] == "owner")
        return _accepted(answer)

    async def withdraw(self, job_id: str, key: RequestKey | None) -> Accepted | None:
        """Find out what came of a `create` whose reply was lost. Returns None if it has not run. Then it never will.

        Raises KeyReused, as `create` does.
        """
        named = ("", "") if key is None else (key.name, key.fingerprint)
        answer = await self._call("withdraw", job_id, *named, _ms(_LATEST_CREATE_S))
        return None if answer[0] == "withdrawn" else _accepted(answer)

    async def bind(self, key: RequestKey, job_id: str) -> bool:
        """Bind a key to an existing job. Returns whether it was bound to it before. Raises KeyReused."""
        answer = await self._call("bind", job_id, key.name, key.fingerprint)
        if answer == "conflict":
            raise KeyReused
        return cast(bool, answer == "replay")

    # The life of a running job

    async def claim(
        self, lease: Lease, claim_token: str, *, instead_of: tuple[str, str] | None = None
    ) -> Job | Literal["empty", "wait", "unknown"]:
        """Claim the first job of the lease's model that this worker may run.

        A repeated call with the same `claim_token` returns the same job. `instead_of` is a low job that runs here, and
        its claim token. With it, only a high job is claimed. If one is returned, the low job is queued again.

        `wait`: a job must run alone first. `unknown`: the lease is gone, and the worker has to register again.
        """
        answer = await self._call(
            "claim",
            lease.model,
            lease.worker_instance,
            claim_token,
            lease.model_revision,
            class_offset("normal"),
            class_offset("low"),
            READER_VERSION,
            *(instead_of or ()),
        )
        if answer[0] != "job":
            return cast(Literal["empty", "wait", "unknown"], answer[0])
        fields = answer[1] + answer[2]
        record = dict(zip(fields[::2], fields[1::2], strict=True))
        return Job.decode(record, decode_positions(record["claim_end"]))

    async def append(self, batch: Sequence[Append]) -> list[AppendAnswer]:
        """Write new output of several jobs in one call. Returns one reply for each."""
        args = [part for entry in batch for part in entry.args()]
        lines = (await self._call("append", *args)).split("\n")
        return [AppendAnswer.decode(line) for _, line in zip(batch, lines, strict=True)]

    async def keep_result(self, job_id: str, claim_token: str, result: bytes) -> bool:
        """Store the complete output of a job that this claim is about to end. False: the claim has lost the job."""
        return bool(await self._call("keep_result", job_id, claim_token, result.decode()) == "ok")

    async def requeue(
        self, job_id: str, claim_token: str, reason: RequeueReason, *, died: bool = False
    ) -> str:
        """Queue a running job again if it still has this claim token.

        Returns `requeued`, `failed` (its workers died too often) or `not yours`.
        """
        return cast(str, await self._call("requeue", job_id, claim_token, reason, int(died)))

    async def cancel(self, job_id: str, reason: CancelReason, *, seen: Deadline | None = None) -> str | None:
        """Cancel a job that has not ended. Returns its status, or None if there is no such job. Idempotent.

        With `seen`, does so only if that deadline has not changed.
        """
        return await self._close(job_id, "cancelled", Cancelled(reason), reason, seen)

    async def give_up(self, job_id: str, reason: CancelReason) -> str | None:
        """Cancel a job whose client has to repeat the request. This frees the request's key."""
        return await self._close(job_id, "cancelled", Cancelled(reason), reason, None, frees_keys=True)

    async def expire(self, job_id: str, *, seen: Deadline | None = None) -> str | None:
        """End a job that was not started in time. A started job continues."""
        return await self._close(job_id, "expired", Expired(), "", seen)

    async def fail(self, job_id: str, error: ErrorInfo) -> str | None:
        """End a job that cannot be finished, also if a worker runs it."""
        return await self._close(job_id, "failed", Failed(error), "", None)

    async def _close(
        self,
        job_id: str,
        status: str,
        event: Cancelled | Expired | Failed,
        reason: str,
        seen: Deadline | None,
        *,
        frees_keys: bool = False,
    ) -> str | None:
        deadline = ("", "") if seen is None else (seen.member, str(seen.due_ms))
        answer = await self._call(
            "cancel", job_id, status, reason, encode_event(event), *deadline, int(frees_keys)
        )
        return None if answer == "unknown" else cast(str, answer)

    async def rewrite_file(self) -> None:
        """Make Redis rewrite its append-only file in the background. To be called after each start.

        If the file ends with an unfinished transaction, Redis 6.2 undoes it in memory but leaves it in the file. Later
        writes would become part of it, and the next start would drop or change some of them.
        """
        with unavailable_as_error():
            await self._redis.bgrewriteaof()

    # Workers

    async def register(self, lease: Lease) -> None:
        """Begin a worker's lease. A worker without a lease cannot claim jobs."""
        fields: dict[str, str | int] = {
            "name": lease.name,
            "host": lease.host,
            "pid": lease.pid,
            "device": lease.device,
            "slots": lease.slots,
            "revision": lease.model_revision,
            "exact": int(lease.is_exact),
            "continues": int(lease.can_continue),
            "reads": READER_VERSION,
        }
        if lease.max_model_len is not None:
            fields["context"] = lease.max_model_len
        if lease.fingerprint is not None:
            fields |= {"fingerprint": lease.fingerprint.id, "computes": lease.fingerprint.encode()}
        await self._call("register", lease.worker_instance, lease.model, *_pairs(fields))

    async def beat(
        self,
        worker_instance: str,
        *,
        steps: int,
        wake_ups: int,
        running: Mapping[str, str],
        stats: Mapping[str, Any],
        report: WorkerReport | None = None,
    ) -> BeatAnswer | None:
        """Send a heartbeat, with the claim token of each running job.

        Returns None if the worker instance has lost its lease and has to register again.
        """
        answer = await self._call(
            "beat",
            worker_instance,
            steps,
            wake_ups,
            json.dumps(dict(stats)),
            "" if report is None else report.encode(),
            *_pairs(running),
        )
        if answer[0] == "unknown":
            return None
        strays = dict(zip(answer[1::2], answer[2::2], strict=True))
        return BeatAnswer(strays, is_draining=answer[0] == "drain")

    async def drain(self, worker_instance: str) -> bool:
        """Ask a worker to drain. Returns False if it has no lease."""
        return bool(await self._call("drain", worker_instance) == "ok")

    async def release(self, worker_instance: str, reason: RequeueReason, *, died: bool) -> list[WakeUp]:
        """End a worker's lease and queue its jobs again. Returns the wake-ups to send."""
        return _wake_ups(await self._call("release", worker_instance, reason, int(died)))

    # Readers

    async def register_replica(self, replica: str) -> None:
        """Begin an API replica's lease. A replica without a lease cannot join jobs."""
        await self._call("register_replica", replica)

    async def beat_replica(self, replica: str, followed: Mapping[str, int]) -> ReplicaBeat | None:
        """Send a replica's heartbeat, with the number of its join for each job that it reads.

        Returns None if the lease is gone. The replica has to register and join again.
        """
        status, strays, missing = await self._call("beat_replica", replica, *_pairs(followed))
        if status == "unknown":
            return None
        seqs = map(int, strays[1::2])
        return ReplicaBeat(dict(zip(strays[::2], seqs, strict=True)), missing)

    async def join(self, job_id: str, reader: Reader) -> Joined:
        """Register a reader. A paused job is queued again, and the result has the wake-up to send."""
        status, *model = await self._call("join", job_id, *reader, PRIORITY_SPAN)
        return Joined(status, WakeUp(job_id, model[0]) if model else None)

    async def leave(self, replica: str, left: Mapping[str, int]) -> None:
        """End a replica's registration as a reader of these jobs, which it joined with these numbers.

        When its last reader has left, a job is paused, continues or is cancelled, as its `on_disconnect` says.
        """
        await self._call("leave", replica, *_pairs(left))

    async def release_replica(self, replica: str) -> None:
        """End a dead replica's lease and its registrations."""
        while await self._call("release_replica", replica, _LEFT_AT_ONCE):
            pass

    # Duties

    async def audit(
        self, job_ids: Sequence[str], *, lasting: Mapping[str, Served] | None = None
    ) -> tuple[list[WakeUp], list[str]]:
        """Repair active jobs that are in no queue and on no living worker.

        `lasting`: what each model's workers serve, if that has not changed for long. A job that they cannot serve
        fails. Returns the wake-ups to send, and the failed jobs.
        """
        known = {
            model: {"revisions": dict.fromkeys(served.revisions, 1), "reads": served.reads}
            for model, served in (lasting or {}).items()
        }
        wake_ups, failed = await self._call("audit", json.dumps(known), *job_ids)
        return _wake_ups(wake_ups), failed

    async def promote(
        self, models: Iterable[str], *, after_s: Mapping[Priority, float] = PROMOTED_AFTER_S
    ) -> tuple[int, dict[str, int]]:
        """Move jobs that have waited for `after_s` to the next higher class.

        Returns how many jobs were moved, and the length of each model's queue.
        """
        classes = [(class_offset(priority), round(wait_s * 1e6)) for priority, wait_s in after_s.items()]
        queues = [(model, *limits) for model in models for limits in classes]
        args = [part for queue in queues for part in queue]
        promoted, *waiting = await self._call("promote", PRIORITY_SPAN, _PROMOTED_AT_ONCE, *args)
        return promoted, {model: num for (model, *_), num in zip(queues, waiting, strict=True)}

    async def forget(self, job_id: str, owner: str = "") -> None:
        """Remove a job that has ended, with its stream and its keys. `owner`: for a record that does not say it."""
        await self._call("forget", job_id, owner)


def _accepted(answer: list[str]) -> Accepted:
    if answer[0] == "conflict":
        raise KeyReused
    return Accepted(answer[1], int(answer[2]) / 1000, is_replay=answer[0] == "replay")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _pairs(fields: Mapping[str, str | int]) -> list[str | int]:
    return [part for pair in fields.items() for part in pair]


def _wake_ups(answer: list[str]) -> list[WakeUp]:
    return [WakeUp(job_id, model) for job_id, model in zip(answer[::2], answer[1::2], strict=True)]
