"""Every name that Baton uses in Redis and Celery is made here, for Python and for the Lua scripts."""

from __future__ import annotations

#: Per-thing names. `%s` is the id; Lua's string.format reads the same templates.
_TEMPLATES = {
    "job": "job:%s",  # hash; until the job's retention ends
    "asked": "job:%s:request",  # hash: what may be long: body, metadata, resolved request; as the job
    "events": "job:%s:events",  # stream of the job's events; until the job's retention ends
    "queued": "queued:%s",  # zset job -> score (shared/queue_score.py), by model; while the job waits
    "worker": "worker:%s",  # hash: the lease of an incarnation; removed by `release` alone
    "worker_jobs": "worker:%s:jobs",  # hash job -> holder word, by incarnation
    "worker_report": "worker:%s:report",  # what a worker has measured, as JSON; 10 s after its last beat
    "owner_jobs": "owner:%s:jobs",  # zset job -> place in the order of acceptance, by owner
    "request": "idem:%s",  # string `<job> <fingerprint>`, by `<owner>:<hash of the key>`; as long as the job
    "pace": "pace:%s",  # hash `<bucket>:n|ms` -> jobs that ended and their run time, by model; five minutes
    "channel": "events:%s",  # pub/sub channel of those who write events
}

#: zset job -> place in the order of acceptance: every job that is not terminal.
ACTIVE = "active"
#: zset `<kind>:<job>` -> wall-clock ms at which it is due; kinds in `shared.job.DeadlineKind`.
DEADLINES = "deadlines"
#: hash owner -> how many of its jobs are not over; only owners that have some.
OPEN = "open"
#: string: the place (µs since the epoch) that was given last.
PLACE = "place"
#: set of living incarnations.
WORKERS = "workers"
#: set of every model that a worker has ever registered.
MODELS = "models"
#: Never there: removing it is a write that needs no memory, and that a Redis which takes no writes refuses.
NOTHING = "nothing"
#: Pattern of all channels on which events are published.
CHANNELS = _TEMPLATES["channel"] % "*"
#: Channel source of events that no worker wrote.
STORE_SOURCE = "store"
#: Name of the one Celery task: a bell.
BELL_TASK = "baton.bell"


def job(job_id: str) -> str:
    return _TEMPLATES["job"] % job_id


def asked(job_id: str) -> str:
    return _TEMPLATES["asked"] % job_id


def events(job_id: str) -> str:
    return _TEMPLATES["events"] % job_id


def queued(model: str) -> str:
    return _TEMPLATES["queued"] % model


def worker(incarnation: str) -> str:
    return _TEMPLATES["worker"] % incarnation


def worker_jobs(incarnation: str) -> str:
    return _TEMPLATES["worker_jobs"] % incarnation


def worker_report(incarnation: str) -> str:
    return _TEMPLATES["worker_report"] % incarnation


def owner_jobs(owner: str) -> str:
    return _TEMPLATES["owner_jobs"] % owner


def request(name: str) -> str:
    return _TEMPLATES["request"] % name


def pace(model: str) -> str:
    return _TEMPLATES["pace"] % model


def channel(source: str) -> str:
    """The channel of an incarnation's events, or of STORE_SOURCE's."""
    return _TEMPLATES["channel"] % source


def bell_queue(model: str) -> str:
    """The Celery queue that calls workers to a model's jobs."""
    return f"baton.{model}"


def lua_names() -> str:
    """The same names as Lua: `<thing>_key(id)` functions and the constants."""
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
            "PLACE": PLACE,
            "WORKERS": WORKERS,
            "MODELS": MODELS,
            "NOTHING": NOTHING,
            "STORE_SOURCE": STORE_SOURCE,
        }.items()
    ]
    return "\n".join(functions + constants) + "\n"
