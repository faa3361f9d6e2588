"""State: all that Redis holds, and what must be true of it at every moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis

from shared.domain.events import Entry, Output, Queued, Requeued, decode_entry
from shared.domain.job import TERMINAL_STATUSES
from shared.domain.result import Result
from shared.store import keys
from shared.store.queue_score import PRIORITY_SPAN
from tests.integration.shared.machine.plan import MODEL, NUM_PROMPT_TOKENS, OWNER, Plan

#: Pauses that keep a job's place in its queue.
_FREE_PAUSES = 3
_READ = {"hash": "hgetall", "string": "get", "set": "smembers", "stream": "xrange"}


@dataclass(frozen=True)
class State:
    """The keys of a Redis, decoded."""

    keys: dict[str, Any]
    streams: dict[str, list[Entry]] = field(default_factory=dict)

    @classmethod
    async def of(cls, redis: Redis) -> State:
        names = sorted(cast(list[str], await redis.keys("*")))
        async with redis.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.type(name)
            types = await pipe.execute()
            for name, kind in zip(names, types, strict=True):
                if kind == "zset":
                    pipe.zrange(name, 0, -1, withscores=True)
                else:
                    getattr(pipe, _READ[kind])(name)
            found = dict(zip(names, await pipe.execute(), strict=True))
        streams = {
            name.split(":")[2]: [decode_entry(*entry) for entry in found[name]]
            for name, kind in zip(names, types, strict=True)
            if kind == "stream"
        }
        return cls(found, streams)

    @property
    def job_ids(self) -> list[str]:
        return [
            name.split(":")[2] for name in self.keys if name.startswith("baton:job:") and name.count(":") == 2
        ]

    def job(self, job_id: str) -> dict[str, str]:
        record: dict[str, str] = self.keys[keys.job(job_id)]
        return record

    def zset(self, name: str) -> dict[str, float]:
        return dict(self.keys.get(name, ()))

    def claim_token(self, job_id: str) -> str:
        return self.job(job_id)["claim_token"] if keys.job(job_id) in self.keys else ""

    def readers(self, job_id: str) -> dict[str, str]:
        """The replicas that read a job, with the numbers of their joins."""
        if keys.job(job_id) not in self.keys:
            return {}
        entries = self.job(job_id).get("readers", "").split()
        found = dict(entry.rsplit(":", 1) for entry in entries)
        assert len(found) == len(entries), "a replica reads a job twice"
        return found

    def is_paused(self, job_id: str) -> bool:
        return bool(self.job(job_id).get("paused_ms"))

    def check(self, plans: dict[str, Plan]) -> None:
        """Fails where something contradicts something else."""
        for job_id in self.job_ids:
            _check_stream(self.streams[job_id], plans[job_id])
            self._check_record(job_id)
            self._check_pause(job_id)
            self._check_result(job_id, plans[job_id])
        self._check_readers()
        self._check_bytes()
        self._check_indexes()
        self._check_keys()

    def _check_record(self, job_id: str) -> None:
        record, last = self.job(job_id), self.streams[job_id][-1]
        assert int(record["fence"]) == int(last.id.split("-")[0])
        waits = isinstance(last.event, Queued | Requeued)
        if last.is_terminal:
            assert record["status"] == type(last.event).__name__.lower()
        else:
            assert record["status"] == ("queued" if waits else "in_progress")
        assert (
            bool(record["claim_token"])
            == bool(record["worker_instance"])
            == (record["status"] == "in_progress")
        )

    def _check_pause(self, job_id: str) -> None:
        record = self.job(job_id)
        if self.is_paused(job_id):
            assert record["status"] == "queued" and record["on_disconnect"] == "pause"
            assert not self.readers(job_id), "a job that is read is paused"
            assert int(record["num_pauses"]) > 0

    def _check_result(self, job_id: str, plan: Plan) -> None:
        """Only a claim that ends the job stores its output, and all of it."""
        raw = self.keys.get(keys.job_result(job_id))
        assert raw is None or self.job(job_id)["status"] not in ("cancelled", "failed", "expired")
        if raw is not None:
            choices = Result.decode(raw).choices
            assert [choice.token_ids for choice in choices] == [
                plan.tokens(index) for index in range(len(plan.lengths))
            ]

    def _check_bytes(self) -> None:
        """What is counted is what the jobs say."""
        sums = dict[str, int]()
        for job_id in self.job_ids:
            owner, size = self.job(job_id)["owner"], int(self.job(job_id)["bytes"])
            assert size > 0
            sums[owner] = sums.get(owner, 0) + size
        assert {owner: int(size) for owner, size in self.keys.get(keys.BYTES, {}).items()} == sums
        assert int(self.keys.get(keys.ALL_BYTES, 0)) == sum(sums.values())

    def _check_readers(self) -> None:
        """Jobs and replicas name each other; only replicas with a lease read."""
        by_job = {
            (job_id, replica, seq) for job_id in self.job_ids for replica, seq in self.readers(job_id).items()
        }
        by_replica = {
            (job_id, name.split(":")[2], seq)
            for name, jobs in self.keys.items()
            if name.startswith("baton:replica:") and name.endswith(":jobs")
            for job_id, seq in jobs.items()
        }
        assert by_job == by_replica
        assert {replica for _, replica, _ in by_job} <= self.replicas
        for job_id in self.job_ids:
            assert self.job(job_id)["status"] not in TERMINAL_STATUSES or not self.readers(job_id)

    @property
    def replicas(self) -> set[str]:
        """Those with a lease."""
        found: set[str] = self.keys.get(keys.REPLICAS, set())
        return found

    def _check_indexes(self) -> None:
        """Each index holds what the records say, and nothing else."""
        records = {job_id: self.job(job_id) for job_id in self.job_ids}
        is_open = {i for i, record in records.items() if record["status"] not in TERMINAL_STATUSES}
        assert set(self.zset(keys.ACTIVE)) == is_open
        assert self.keys.get(keys.OPEN, {}) == ({OWNER: str(len(is_open))} if is_open else {})
        assert set(self.zset(keys.owner_jobs(OWNER))) == set(records)
        waiting = {
            i: float(record["score"])
            for i, record in records.items()
            if record["status"] == "queued" and not self.is_paused(i)
        }
        assert self.zset(keys.queued(MODEL)) == waiting
        keeps_place = [
            i for i in self.zset(keys.queued(MODEL)) if int(records[i].get("num_pauses", 0)) <= _FREE_PAUSES
        ]
        accepted = self.zset(keys.ACTIVE)
        assert keeps_place == sorted(keeps_place, key=lambda i: (_class(records[i]), accepted[i]))
        held = {
            (name.split(":")[2], job_id, word)
            for name, jobs in self.keys.items()
            if name.startswith("baton:worker:") and name.endswith(":jobs")
            for job_id, word in jobs.items()
        }
        running = {
            (r["worker_instance"], i, r["claim_token"]) for i, r in records.items() if r["claim_token"]
        }
        assert held == running
        assert len({word for *_, word in held}) == len(held), "a word holds two jobs"
        self._check_deadlines(records)

    def _check_deadlines(self, records: dict[str, dict[str, str]]) -> None:
        due = {tuple(member.split(":")) for member in self.zset(keys.DEADLINES)}
        assert {job_id for _, job_id in due} <= set(records)
        for job_id, record in records.items():
            kinds = {kind for kind, one in due if one == job_id}
            is_over = record["status"] in TERMINAL_STATUSES
            wanted = {"retention"} if is_over else set()
            if not is_over and record["on_disconnect"] == "pause" and not self.readers(job_id):
                wanted.add("paused")
            if not is_over and "cancel_after_ms" in record:
                wanted.add("cancel")
            if "started_ms" not in record and not is_over and "expires_after_ms" in record:
                wanted.add("expires")
            assert kinds == wanted

    def _check_keys(self) -> None:
        """No key without its job or its living worker, and no half of a job."""
        ids, workers = set(self.job_ids), self.keys.get(keys.WORKERS, set())
        for name, value in self.keys.items():
            kind, _, rest = name.removeprefix(keys.PREFIX).partition(":")
            if kind == "job":
                assert rest.partition(":")[0] in ids
            if kind == "worker":
                assert rest.partition(":")[0] in workers
            if kind == "replica":
                assert rest.partition(":")[0] in self.replicas
            if kind == "idem":
                assert rest in self.job(value.split()[0])["keys"].split()
        assert set(self.streams) == ids == {i for i in ids if keys.job_request(i) in self.keys}
        assert {
            name.split(":")[2]
            for name in self.keys
            if name.startswith("baton:worker:") and name.count(":") == 2
        } == workers

    def check_follows(
        self, before: State, plans: dict[str, Plan], told: dict[str, set[tuple[str, str]]]
    ) -> None:
        """Streams only grow, never behind an end, and who reads a job is told so; only what is over goes."""
        for job_id, entries in self.streams.items():
            known = len(before.streams.get(job_id, entries[:1]))
            new = {(job_id, entry.id) for entry in entries[known:]}
            for replica in self._stayed(before, job_id):
                assert new <= told.get(replica, set()), "not published"
        self._check_who_is_told(before, told)
        for job_id, old in before.streams.items():
            new_stream = self.streams.get(job_id)
            # A round of duties may end a job and forget it at once.
            assert new_stream is not None or old[-1].is_terminal or plans[job_id].is_short_lived
            assert new_stream is None or new_stream[: len(old)] == old
            assert new_stream is None or not old[-1].is_terminal or new_stream == old

    def _stayed(self, before: State, job_id: str) -> set[str]:
        """Who read a job all the time between two moments, as far as that can be told from them."""
        was = before.readers(job_id)
        if self.job(job_id)["status"] not in TERMINAL_STATUSES:
            return {replica for replica, seq in self.readers(job_id).items() if was.get(replica) == seq}
        # With its end a job loses its readers; one that aborted, or ended while paused, had lost them before.
        return set() if self.job(job_id)["reason"] == "reader_gone" else was.keys() & self.replicas

    def _check_who_is_told(self, before: State, told: dict[str, set[tuple[str, str]]]) -> None:
        for replica, entries in told.items():
            for job_id, _ in entries:
                assert replica in before.readers(job_id) or replica in self.readers(job_id), "told unasked"


def _class(record: dict[str, str]) -> float:
    return float(record["score"]) // PRIORITY_SPAN


def _check_stream(entries: list[Entry], plan: Plan) -> None:
    """Positions join, tokens are the plan's, one end at most and nothing behind it."""
    told: list[list[int]] = [[] for _ in plan.lengths]
    assert isinstance(entries[0].event, Queued) and entries[0].id == "1-0"
    for entry in entries:
        if isinstance(entry.event, Output):
            for choice in entry.event.choices:
                assert choice.start == len(told[choice.index])
                told[choice.index] += choice.token_ids or ()
        assert entry.end == tuple(map(len, told))
        assert entry.used.completion == sum(entry.end)
        assert entry.used.prompt == NUM_PROMPT_TOKENS or not any(entry.end)
    for index, ids in enumerate(told):
        assert ids == plan.tokens(index)[: len(ids)]
    assert not any(entry.is_terminal for entry in entries[:-1])
