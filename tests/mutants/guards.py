"""The guards of the protocol. One that is added to the program is added here too."""

from __future__ import annotations

from tests.mutants.guard import Guard

_SHARED = "tests/integration/shared"
_STORE = f"{_SHARED}/test_job_store.py"
_REAPER, _KEYS = f"{_SHARED}/test_reaper.py", f"{_SHARED}/test_request_key.py"
_WORKER, _HEARTBEAT, _WATCHDOG = (
    f"tests/integration/workers/test_{name}.py" for name in ("worker", "heartbeat", "watchdog")
)
_JOIN, _RELAY, _FOLLOWER = (f"tests/unit/api/streaming/test_{name}.py" for name in ("updates", "relay", "subscription"))
_LUA = "shared/store/scripts/"


def _guard(name: str, file: str, old: str, new: str, *tests: str) -> Guard:
    return Guard(name, file, old, new, tests)


GUARDS = (
    # Writing
    _guard(
        "claim_token compared in append",
        _LUA + "append.lua",
        "if seen[1] ~= claim_token then",
        "if false then",
        _STORE,
    ),
    _guard(
        "position compared in append", _LUA + "append.lua", "if end_ ~= from then", "if false then", _STORE
    ),
    _guard(
        "end known by its writer",
        _LUA + "append.lua",
        "if seen[2] == claim_token then",
        "if false then",
        _STORE,
    ),
    _guard(
        "a stream that is gone stays gone",
        _LUA + "append.lua",
        "if not fence then return 'gone' end",
        "fence, number, end_ = fence or 9, number or 0, end_ or from",
        _STORE,
    ),
    _guard(
        "NOMKSTREAM",
        _LUA + "prelude.lua",
        "events_key(id), 'NOMKSTREAM', stream_id",
        "events_key(id), stream_id",
        _STORE,
    ),
    _guard(
        "terminal once",
        _LUA + "cancel.lua",
        "if is_terminal(job.status) then return job.status end",
        "",
        _STORE,
    ),
    _guard(
        "cancelling clears the claim_token",
        _LUA + "prelude.lua",
        "  take_away(id, job)\n  redis.call('HSET', job_key(id), 'status', status,",
        "  redis.call('HSET', job_key(id), 'status', status,",
        _STORE,
    ),
    _guard(
        "the fence rises at a claim",
        _LUA + "claim.lua",
        "fence = tonumber(job.fence) + 1",
        "fence = tonumber(job.fence)",
        _STORE,
    ),
    _guard("every write is published", _LUA + "requeue.lua", "publish(STORE_SOURCE)", "", _STORE),
    # Claiming and giving back
    _guard(
        "a claim repeated by its word",
        _LUA + "claim.lua",
        "if held[i + 1] == claim_token then",
        "if false then",
        _STORE,
    ),
    _guard(
        "no lease, no claim",
        _LUA + "claim.lua",
        "if redis.call('SISMEMBER', WORKERS, worker_instance) == 0 then",
        "if false then",
        _STORE,
    ),
    _guard(
        "another revision's job passed over",
        _LUA + "claim.lua",
        "elseif job[4] and job[4] ~= revision then",
        "elseif false then",
        _STORE,
    ),
    _guard(
        "claim_token compared in requeue",
        _LUA + "requeue.lua",
        "job.claim_token ~= claim_token then",
        "false then",
        _STORE,
    ),
    _guard(
        "claim_token compared in release",
        _LUA + "release.lua",
        "job.claim_token == held[i + 1] and",
        "",
        _STORE,
    ),
    _guard("deaths end a job", _LUA + "prelude.lua", "if deaths >= MAX_DEATHS then", "if false then", _STORE),
    _guard(
        "a reaped worker_instance's beat",
        _LUA + "beat.lua",
        "if redis.call('SISMEMBER', WORKERS, worker_instance) == 0 then return {'unknown'} end",
        "",
        _STORE,
    ),
    _guard(
        "strays named by the beat",
        _LUA + "beat.lua",
        "if named[held[i]] ~= held[i + 1] then",
        "if false then",
        _STORE,
    ),
    _guard(
        "started is not expired",
        _LUA + "cancel.lua",
        "if status == 'expired' and job.status ~= 'queued' then return job.status end",
        "",
        _STORE,
    ),
    _guard(
        "what is not over is not forgotten",
        _LUA + "forget.lua",
        "if job[1] and not is_terminal(job[1]) then return 0 end",
        "",
        _STORE,
    ),
    # Judging
    _guard(
        "deadline judged by change",
        _LUA + "cancel.lua",
        "redis.call('ZSCORE', DEADLINES, ARGV[5]) ~= ARGV[6]",
        "false",
        _STORE,
    ),
    _guard(
        "patience of the reaper",
        "shared/cluster/reaper.py",
        "worker.beat) > self._lease_s:",
        "worker.beat) >= 0:",
        _REAPER,
    ),
    _guard(
        "patience anew after a gap",
        "shared/cluster/reaper.py",
        'logger.warning("no round of duties: %s", error)\n            self._patience.start_anew()',
        'logger.warning("no round of duties: %s", error)',
        _REAPER,
    ),
    _guard(
        "nobody is judged while nobody can write",
        _LUA + "promote.lua",
        "write_although_full()",
        "",
        _REAPER,
    ),
    _guard(
        "signs of life although the memory is full", _LUA + "beat.lua", "write_although_full()", "", _STORE
    ),
    _guard("an end although the memory is full", _LUA + "cancel.lua", "write_although_full()", "", _STORE),
    _guard(
        "a refusal is no end of a worker",
        "shared/cluster/celery_app.py",
        "        broker_channel_error_retry=True,\n",
        "",
        "tests/acceptance/faults/test_full.py",
    ),
    _guard(
        "patience with readers",
        "shared/cluster/reaper.py",
        "deadline.due_ms) <= _READER_PATIENCE_S:",
        "deadline.due_ms) < 0:",
        _REAPER,
    ),
    _guard(
        "patience with a revision",
        "shared/cluster/reaper.py",
        "found) > REVISION_PATIENCE_S",
        "found) >= 0",
        _REAPER,
    ),
    _guard(
        "a revision that a living worker has",
        _LUA + "audit.lua",
        "if worker[1] == job.model and worker[2] == job.revision then return false end",
        "",
        _STORE,
    ),
    _guard(
        "a revision that was there a moment ago",
        _LUA + "audit.lua",
        "or revisions[job.revision] then",
        "then",
        _STORE,
        _REAPER,
    ),
    # The worker's side
    _guard(
        "re-send after a rollback",
        "workers/runtime/publisher.py",
        "                running.is_sure = False\n            case",
        "                running.confirm(append)\n            case",
        _WORKER,
    ),
    _guard(
        "strays only without a claim under way",
        "workers/runtime/heartbeat.py",
        "if self._claimer.is_claiming:",
        "if False:",
        _HEARTBEAT,
    ),
    _guard(
        "strays only when named twice",
        "workers/runtime/heartbeat.py",
        "in strays & self._strays:",
        "in strays:",
        _HEARTBEAT,
    ),
    _guard(
        "a worker that claims nothing ends",
        "workers/runtime/watchdog.py",
        "if self._num_idle >= MAX_IDLE_LOOKS:",
        "if False:",
        _WATCHDOG,
    ),
    _guard(
        "patience with a worker while Redis is away",
        "workers/runtime/watchdog.py",
        'logger.warning("not judged: %s", error)\n            self._num_idle = 0',
        'logger.warning("not judged: %s", error)',
        _WATCHDOG,
    ),
    _guard(
        "only a free slot can be idle",
        "workers/runtime/watchdog.py",
        "self._num_asked != before or self._jobs.num_free_slots < 1:",
        "self._num_asked != before:",
        _WATCHDOG,
    ),
    _guard(
        "a row that cannot be drawn fails alone",
        "workers/engine/sampling/isolating_sampler.py",
        "if num_failed == 0 or num_failed == len(rows) > 1:",
        "if True:",
        "tests/unit/workers/engine/test_engine.py",
    ),
    # Readers
    _guard(
        "the relay's positions",
        "api/streaming/updates.py",
        "        if part.start > tokens:\n            return None\n",
        "",
        _JOIN,
    ),
    _guard(
        "known tokens cut off",
        "api/streaming/updates.py",
        "fresh = part if part.start == tokens else part.since(tokens)",
        "fresh = part",
        _JOIN,
    ),
    _guard(
        "a missing change of hands",
        "api/streaming/updates.py",
        "if follows > cursor.marker or any(",
        "if any(",
        _JOIN,
    ),
    _guard(
        "nothing behind the end",
        "api/streaming/updates.py",
        '    if cursor.ending == "over":\n        return []\n',
        "",
        _JOIN,
    ),
    _guard(
        "registered before read",
        "api/streaming/subscription.py",
        "                self._held.append(entry)\n",
        "                pass\n",
        _RELAY,
        _FOLLOWER,
    ),
    _guard(
        "what was left in the stream is read",
        "api/streaming/subscription.py",
        "        if self.is_behind:\n            self._on_room()\n",
        "",
        _RELAY,
        _FOLLOWER,
    ),
    _guard(
        "nothing is joined past what was left",
        "api/streaming/subscription.py",
        "            self.is_behind = True\n            return True\n        self.last_id",
        "            return True\n        self.last_id",
        _FOLLOWER,
    ),
    _guard(
        "what does not go on from an id is read by position",
        "api/streaming/subscription.py",
        "                self.last_id = None\n",
        "",
        _RELAY,
        _FOLLOWER,
    ),
    _guard(
        "silence is looked up",
        "api/streaming/relay.py",
        "                await self._look_up_silent()\n",
        "",
        _RELAY,
    ),
    _guard(
        "a reconnect is looked up",
        "api/streaming/relay.py",
        "                self._look_up_all()\n",
        "",
        _RELAY,
    ),
    # Who may ask
    _guard(
        "cursor of another job",
        "api/streaming/cursor.py",
        "if match is None or match[1] != _check(job_id):",
        "if match is None:",
        "tests/unit/api/streaming/test_cursor.py",
    ),
    _guard(
        "API keys compared",
        "api/http/auth.py",
        "hmac.compare_digest(given, digest)",
        "True",
        "tests/unit/api/http/test_auth.py",
    ),
    _guard(
        "another owner's job is not found",
        "api/dependencies.py",
        "if job is None or job.owner != owner:",
        "if job is None:",
        "tests/integration/api/test_jobs.py",
    ),
    _guard(
        "fingerprint of a repeated request",
        _LUA + "create.lua",
        "if held and fingerprint ~= ARGV[9] then",
        "if false then",
        _KEYS,
    ),
)
