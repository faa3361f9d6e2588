"""Keys: all names that Baton uses in Redis and Celery, for Python and for the Lua scripts."""

from __future__ import annotations

#: Prefix of all keys of Baton and its Celery queues, so that other programs can use the same Redis.
PREFIX = "baton:"

#: Templates for keys. `%s` is the id. Lua's string.format reads the same templates.
_TEMPLATES = {
    "job": "baton:job:%s",  # hash; until the job's retention ends
    "job_request": "baton:job:%s:request",  # hash: request, metadata, view, resolved request; as long as the job
    "job_result": "baton:job:%s:result",  # the complete output as JSON; from the job's end, as long as the job
    "events": "baton:job:%s:events",  # stream of the job's events; until the job's retention ends
    "queued": "baton:queued:%s",  # zset job -> score (shared/store/queue_score.py), by model; while the job is queued
    "worker": "baton:worker:%s",  # hash: the lease of a worker instance; removed by `release` alone
    "worker_jobs": "baton:worker:%s:jobs",  # hash job -> claim token, by worker instance
    "worker_report": "baton:worker:%s:report",  # what a worker has measured, as JSON; 10 s after its last beat
    "replica": "baton:replica:%s",  # hash: the lease of an API replica; removed by `release_replica` alone
    "replica_jobs": "baton:replica:%s:jobs",  # hash job -> number of the join, by API replica that reads the job
    "owner_jobs": "baton:owner:%s:jobs",  # zset job -> number in the order of acceptance, by owner
    "idempotency": "baton:idem:%s",  # string `<job> <fingerprint>`, by `<owner>:<hash of the key>`; as long as the job
    "throughput": "baton:throughput:%s",  # hash `<bucket>:n|ms` -> ended jobs, run time; by model; 5 min
    "questions": "baton:questions:%s",  # list of questions to any worker, by model; 10 s
    "answer": "baton:answer:%s",  # list with the answer, by question; 10 s
    "channel": "baton:events:%s",  # pub/sub channel: events of the jobs that an API replica reads
}

#: zset job -> number in the order of acceptance: every job that has not ended.
ACTIVE = PREFIX + "active"
#: zset `<kind>:<job>` -> wall-clock ms at which it is due; kinds in `shared.domain.job.DeadlineKind`.
DEADLINES = PREFIX + "deadlines"
#: hash owner -> number of its jobs that have not ended, if there are any.
OPEN = PREFIX + "open"
#: hash owner -> bytes that its jobs take, ended ones included.
BYTES = PREFIX + "bytes"
#: string: bytes that all jobs take.
ALL_BYTES = PREFIX + "all_bytes"
#: string: the last number in the order of acceptance (µs since the epoch).
ACCEPT_SEQ = PREFIX + "accept_seq"
#: set of living worker instances.
WORKERS = PREFIX + "workers"
#: set of living API replicas.
REPLICAS = PREFIX + "replicas"
#: set of every model that a worker has ever registered.
MODELS = PREFIX + "models"
#: hash model -> wall-clock ms at which a worker first registered it.
MODEL_TIMES = PREFIX + "model_times"
#: A key that never exists. Deleting it needs no memory, and fails if Redis accepts no writes.
NOTHING = PREFIX + "nothing"
#: Name of the one Celery task: a wake-up.
WAKE_UP_TASK = "baton.wake_up"


def job(job_id: str) -> str:
    return _TEMPLATES["job"] % job_id


def job_request(job_id: str) -> str:
    return _TEMPLATES["job_request"] % job_id


def job_result(job_id: str) -> str:
    return _TEMPLATES["job_result"] % job_id


def events(job_id: str) -> str:
    return _TEMPLATES["events"] % job_id


def queued(model: str) -> str:
    return _TEMPLATES["queued"] % model


def worker(worker_instance: str) -> str:
    return _TEMPLATES["worker"] % worker_instance


def worker_jobs(worker_instance: str) -> str:
    return _TEMPLATES["worker_jobs"] % worker_instance


def worker_report(worker_instance: str) -> str:
    return _TEMPLATES["worker_report"] % worker_instance


def replica(name: str) -> str:
    return _TEMPLATES["replica"] % name


def replica_jobs(name: str) -> str:
    return _TEMPLATES["replica_jobs"] % name


def owner_jobs(owner: str) -> str:
    return _TEMPLATES["owner_jobs"] % owner


def idempotency(name: str) -> str:
    return _TEMPLATES["idempotency"] % name


def throughput(model: str) -> str:
    return _TEMPLATES["throughput"] % model


def channel(replica: str) -> str:
    """Return the channel for events of the jobs that an API replica reads."""
    return _TEMPLATES["channel"] % replica


def questions(model: str) -> str:
    return _TEMPLATES["questions"] % model


def answer(question: str) -> str:
    return _TEMPLATES["answer"] % question


def wake_up_queue(model: str) -> str:
    """Return the name of the Celery queue for a model's wake-ups."""
    return f"baton.{model}"


def broker_list(model: str) -> str:
    """Return the Redis list in which kombu keeps that queue."""
    return PREFIX + wake_up_queue(model)


def lua_names() -> str:
    """Return the same names as Lua code: functions `<name>_key(id)` and constants."""
    functions = [
        f"local function {name}_key(id) return string.format('{template}', id) end"
        for name, template in _TEMPLATES.items()
    ]
    constants = [
        f"local {name} = '{value}'"
        for name, value in {
            "ACTIVE": ACTIVE,
            "DEADLINES": DEADLINES,
            "OPEN": OPEN,
            "BYTES": BYTES,
            "ALL_BYTES": ALL_BYTES,
            "ACCEPT_SEQ": ACCEPT_SEQ,
            "WORKERS": WORKERS,
            "REPLICAS": REPLICAS,
            "MODELS": MODELS,
            "MODEL_TIMES": MODEL_TIMES,
            "NOTHING": NOTHING,
        }.items()
    ]
    return "\n".join(functions + constants) + "\n"
