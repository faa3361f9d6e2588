"""LocalBackend: runs the local engine in a thread of its own."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from shared.domain.fingerprint import Fingerprint
from shared.domain.histogram import HistogramReading
from shared.domain.output import ChoiceOutput
from shared.domain.request import GenerationRequest
from shared.domain.usage import Usage
from shared.errors import ErrorInfo, RequestError
from shared.store.append import Resolved
from shared.store.question import Answer, Question
from workers.backends.backend import BackendStats, OnOutputs, StepOutput
from workers.cache_stats import CacheStats
from workers.engine.resolved_request import ResolvedRequest


class StepStats(Protocol):
    """An engine's counters."""

    @property
    def steps(self) -> int: ...
    @property
    def generated_tokens(self) -> int: ...
    @property
    def drafted_tokens(self) -> int: ...
    @property
    def accepted_tokens(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def batch_sizes(self) -> Mapping[int, int]: ...
    @property
    def mean_batch_size(self) -> float: ...
    @property
    def phases(self) -> Mapping[str, HistogramReading]: ...
    @property
    def cache(self) -> CacheStats: ...
    @property
    def numerical_errors(self) -> int: ...


class StepEngine(Protocol):
    """A single-threaded engine that `step` advances. See workers.engine.engine.Engine."""

    @property
    def has_work(self) -> bool: ...
    @property
    def stats(self) -> StepStats: ...
    def prepare(self, request: ResolvedRequest) -> None:
        """The only method that other threads may call. Raises RequestError."""

    def add(
        self,
        request_id: str,
        request: ResolvedRequest,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,
    ) -> None: ...
    def abort(self, request_id: str) -> None: ...
    def step(self) -> Sequence[StepOutput]: ...


#: Answers a question about the tokenizer, as Resolve does its work. Raises RequestError.
AnswerQuestion = Callable[[Question], Answer]
#: Resolves a request. Blocks, and is called by one thread at a time. Raises RequestError.
Resolve = Callable[[GenerationRequest], ResolvedRequest]


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The output for a request that the engine refused."""

    request_id: str
    error: ErrorInfo
    choices: tuple[ChoiceOutput, ...] = ()
    used: Usage = Usage()


class LocalBackend:
    """An engine in this process. Only its own thread steps it, and sleeps when there is no work.

    Requests are resolved on a second thread and prepared on a third, so that a slow constraint does not delay requests
    without one.
    """

    def __init__(
        self,
        engine: StepEngine,
        resolve: Resolve,
        *,
        model_revision: str,
        is_exact: bool,
        fingerprint: Fingerprint | None = None,
        max_model_len: int | None = None,
        answer: AnswerQuestion | None = None,
    ) -> None:
        self._engine = engine
        self._resolve = resolve
        self._answer = answer or _no_answer
        self._resolver = ThreadPoolExecutor(1, thread_name_prefix="resolver")
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="preparer")
        self._model_revision = model_revision
        self._is_exact = is_exact
        self._fingerprint = fingerprint
        self._max_model_len = max_model_len
        self._inbox = queue.SimpleQueue[Callable[[], None]]()
        self._refusals: list[_Refusal] = []
        self._is_stopping = False
        self._stats = BackendStats()
        #: Since when there has been work without a step. None: there is no work.
        self._waiting_since: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def model_revision(self) -> str:
        return self._model_revision

    @property
    def is_exact(self) -> bool:
        return self._is_exact

    @property
    def can_continue(self) -> bool:
        return True

    @property
    def fingerprint(self) -> Fingerprint | None:
        return self._fingerprint

    @property
    def max_model_len(self) -> int | None:
        return self._max_model_len

    @property
    def stats(self) -> BackendStats:
        return self._stats

    @property
    def stalled_s(self) -> float:
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    async def resolve(self, request: GenerationRequest) -> ResolvedRequest:
        return await asyncio.get_running_loop().run_in_executor(self._resolver, self._resolve, request)

    async def answer(self, question: Question) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._resolver, self._answer, question)

    def load(self, raw: str) -> ResolvedRequest:
        return ResolvedRequest.decode(raw)

    async def prepare(self, resolved: Resolved) -> None:
        request = _own(resolved)
        if request.sampling.constraint is not None:
            await asyncio.get_running_loop().run_in_executor(self._preparer, self._engine.prepare, request)

    def start(self, on_outputs: OnOutputs, on_death: Callable[[BaseException], None]) -> None:
        assert self._thread is None
        self._thread = threading.Thread(
            target=self._run, args=(on_outputs, on_death), name="engine", daemon=True
        )
        self._thread.start()

    def add(
        self,
        request_id: str,
        resolved: Resolved,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,
    ) -> None:
        request = _own(resolved)
        self._inbox.put(lambda: self._add(request_id, request, so_far, owner))

    def abort(self, request_id: str) -> None:
        self._inbox.put(lambda: self._engine.abort(request_id))

    async def stop(self) -> None:
        for executor in (self._resolver, self._preparer):
            executor.shutdown(wait=False, cancel_futures=True)
        if self._thread is not None:
            self._inbox.put(self._stop)
            await asyncio.to_thread(self._thread.join)

    # On the engine's thread

    def _run(self, on_outputs: OnOutputs, on_death: Callable[[BaseException], None]) -> None:
        try:
            while self._take_inbox():
                if outputs := self._step():
                    on_outputs(outputs)
        except BaseException as error:
            on_death(error)

    def _take_inbox(self) -> bool:
        """Run the calls in the inbox. Waits for one if there is no other work. Returns False to stop."""
        has_work = self._engine.has_work or bool(self._refusals)
        self._waiting_since = time.monotonic() if has_work else None
        if not has_work:
            self._count(self._engine.stats)
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get()()
        return not self._is_stopping

    def _step(self) -> list[StepOutput]:
        outputs: list[StepOutput] = list(self._refusals)
        self._refusals.clear()
        if self._engine.has_work:
            self._waiting_since = self._waiting_since or time.monotonic()
            outputs += self._engine.step()
            self._count(self._engine.stats)
        return outputs

    def _add(
        self,
        request_id: str,
        request: ResolvedRequest,
        so_far: tuple[ChoiceOutput, ...],
        owner: str | None,
    ) -> None:
        try:
            self._engine.add(request_id, request, so_far, owner=owner)
        except RequestError as error:
            self._refusals.append(_Refusal(request_id, error.info))

    def _stop(self) -> None:
        self._is_stopping = True

    def _count(self, stats: StepStats) -> None:
        self._stats = BackendStats(
            steps=stats.steps,
            tokens=stats.generated_tokens,
            drafted_tokens=stats.drafted_tokens,
            accepted_tokens=stats.accepted_tokens,
            prompt_tokens=stats.prompt_tokens,
            running=stats.running,
            batch_mean=stats.mean_batch_size,
            batch_max=max(stats.batch_sizes, default=0),
            batch_sizes=stats.batch_sizes,
            phases=stats.phases,
            cache=stats.cache,
            numerical_errors=stats.numerical_errors,
        )


def _no_answer(question: Question) -> Answer:
    message = f"This worker cannot answer '{type(question).__name__}'."
    raise RequestError(ErrorInfo(message, code="not_supported", status=501))


def _own(resolved: Resolved) -> ResolvedRequest:
    assert isinstance(resolved, ResolvedRequest), "resolved by another backend"
    return resolved
