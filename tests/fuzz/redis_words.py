"""The Redis fuzzer: every error word, cut, delay and garbled reply, for every script and command of a whole system."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import httpx

from tests.fuzz.error_words import WORDS, name_of
from tests.fuzz.tally import Budget, Tally
from tests.fuzz.target import CHAT, JOBS, Health, Target, chat
from tests.fuzz.word_proxy import Act, Rule, WordProxy

#: How long a trial of one kind waits for a command that the scenario does not cause, and one of every kind: longer than
#: the slowest heartbeat.
_WAIT_S, _EVERY_S = 0.8, 3.3
_WITHIN_S = 40.0
_OTHER_ACTS: tuple[Act, ...] = ("cut", "cut after", "delay", "garble")


def run(target: Target, proxy: WordProxy, seed: int, budget: Budget, tally: Tally) -> None:
    """Disturb every script and command by every word: all of them at once, then one by one in an order drawn by lot."""
    scenario = Scenario(target)
    pairs: set[tuple[str, str]] = set()
    rules = [Rule(None, "error", text) for text in WORDS] + [Rule(None, act) for act in _OTHER_ACTS]
    random.Random(seed).shuffle(rules)
    for number, rule in enumerate(rules):
        if budget.is_left(number):
            _try(target, proxy, scenario, rule, tally, pairs, wait_s=_EVERY_S)
    kinds = sorted(kind for kind in proxy.seen if kind != "script ?")
    rules = [Rule(kind, rule.act, rule.text, times=2) for kind in kinds for rule in rules]
    random.Random(seed).shuffle(rules)
    for number, rule in enumerate(rules, start=len(WORDS) + len(_OTHER_ACTS)):
        if not budget.is_left(number):
            break
        _try(target, proxy, scenario, rule, tally, pairs, wait_s=_WAIT_S)
    if wrong := scenario.health.fault(within_s=60):
        tally.fault("at the end", wrong, "all")
    scenario.close()
    tally.notes.append(f"{len(WORDS)} error words and {len(_OTHER_ACTS)} other disturbances")
    tally.notes.append(f"scripts and commands of the whole system: {', '.join(kinds)}")
    tally.notes.append(f"pairs of a word and a script or command that were answered so: {len(pairs)}")


def _try(
    target: Target,
    proxy: WordProxy,
    scenario: Scenario,
    rule: Rule,
    tally: Tally,
    pairs: set[tuple[str, str]],
    *,
    wait_s: float,
) -> None:
    name = name_of(rule.text) if rule.act == "error" else rule.act
    example = f"{name} for {rule.kind or 'every script and command, once each'}"
    proxy.follow(rule)
    wrong = scenario.play(example)
    deadline = time.monotonic() + wait_s
    while (rule.kind is None or not rule.hits) and time.monotonic() < deadline:
        time.sleep(0.02)
    proxy.follow(None)
    if wrong_then := scenario.health.fault(within_s=_WITHIN_S):
        wrong = wrong or f"afterwards: {wrong_then}"
    tally.note_ended(target.ended(), example)
    tally.add(name, "continued" if rule.hits else "not called")
    pairs |= {(name, kind) for kind in rule.hits}
    if wrong:
        tally.fault(name, wrong, example)


class Scenario:
    """What clients do in each trial: a stream with a key, a job that is cancelled and deleted, a list."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._http = httpx.Client(base_url=target.url, timeout=30, trust_env=False)
        self.health = Health(target)
        self._number = 0

    def close(self) -> None:
        self._http.close()
        self.health.close()

    def play(self, name: str) -> str | None:
        """Do it once. Return what went wrong for a client that repeats what got 503 or no response."""
        self._number += 1
        deadline = time.monotonic() + _WITHIN_S
        try:
            text = self._stream(f"{name}-{self._number}"[:200], deadline)
            if text != self.health.expected:
                return f"another answer: {text[:60]!r}"
            job_id = self._send(
                deadline,
                "POST",
                JOBS,
                json={"endpoint": CHAT, "body": chat(self._target.model, max_tokens=100)},
            )["id"]
            self._send(deadline, "POST", f"{JOBS}/{job_id}/cancel")
            self._send(deadline, "GET", f"{JOBS}/{job_id}")
            self._send(deadline, "DELETE", f"{JOBS}/{job_id}", or_status=404)
            self._send(deadline, "GET", f"{JOBS}?limit=5")
        except _Wrong as wrong:
            return str(wrong)
        return None

    def _stream(self, key: str, deadline: float) -> str:
        """The text of a stream. It is begun again with the same key as often as it breaks."""
        body = chat(self._target.model, stream=True)
        headers = {"idempotency-key": key.replace(" ", "-")}
        while time.monotonic() < deadline:
            try:
                with self._http.stream("POST", CHAT, json=body, headers=headers) as reply:
                    text = reply.read().decode()
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if reply.status_code == 200 and "data: [DONE]" in text:
                return _text_of(text)
            if reply.status_code not in (200, 503):
                raise _Wrong(f"a stream gets {reply.status_code}: {_code(text)}")
            time.sleep(0.05)
        raise _Wrong(f"a stream does not end within {_WITHIN_S:g} s")

    def _send(
        self, deadline: float, method: str, path: str, *, or_status: int = 0, **options: Any
    ) -> dict[str, Any]:
        while time.monotonic() < deadline:
            try:
                reply = self._http.request(method, path, **options)
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if reply.status_code < 300 or reply.status_code == or_status:
                found = reply.json()
                assert isinstance(found, dict)
                return found
            if reply.status_code != 503:
                route = f"{method} {path.partition('?')[0].rpartition('/job_')[0] or path}"
                raise _Wrong(f"{route} gets {reply.status_code}: {_code(reply.text)}")
            time.sleep(0.05)
        raise _Wrong(f"{method} {path[:8]} is not answered within {_WITHIN_S:g} s")


class _Wrong(Exception):
    """Raised with what a client must not see."""


def _text_of(stream: str) -> str:
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(
        chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk.get("choices")
    )


def _code(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return text[:60]
