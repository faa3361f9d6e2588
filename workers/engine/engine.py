"""Engine: generates output for many requests at once. Single-threaded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from shared.domain.output import ChoiceOutput
from shared.errors import ErrorInfo, RequestError
from workers.cache_stats import CacheStats
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.constraints.grammar_cache import GrammarCache
from workers.engine.model.runner import ModelRunner
from workers.engine.output import EngineOutput
from workers.engine.requests.limits import RequestLimits
from workers.engine.requests.running_request import MakeOutput, RunningRequest
from workers.engine.requests.sequence_factory import SequenceFactory
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.isolating_sampler import IsolatingSampler
from workers.engine.sampling.numerics import NumericalError
from workers.engine.sampling.prompt_scores import PromptLogprobCollector, read_prompts
from workers.engine.sampling.sampler import Drawn, Sampler
from workers.engine.scheduling.drafter import Drafter
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Draw, Plan
from workers.engine.scheduling.prefix_cache import PrefixCache, prefix_root
from workers.engine.scheduling.scheduler import Scheduler
from workers.engine.scheduling.sequence import Sequence
from workers.engine.stats import EngineStats
from workers.engine.stopwatch import Stopwatch

log = logging.getLogger(__name__)


class Engine:
    def __init__(
        self,
        runner: ModelRunner,
        scheduler: Scheduler,
        sampler: Sampler,
        make_output: MakeOutput,
        kv_budget: KVBudget,
        prefixes: PrefixCache[KVSpan] | None = None,
        grammars: GrammarCache | None = None,
        make_drafter: Callable[[], Drafter] | None = None,
    ) -> None:
        """`make_drafter`: creates a drafter for each sequence. None: no speculative decoding, which is exact only if a
        token's logits do not depend on the tokens computed with it."""
        self._runner = runner
        self._scheduler = scheduler
        self._sampler = IsolatingSampler(sampler)
        self._sequences = SequenceFactory(make_output, runner.vocab_size, grammars, make_drafter)
        self._kv_budget = kv_budget
        self._grammars = grammars
        self._prefixes = prefixes
        self._limits = RequestLimits(kv_budget.longest, runner.vocab_size)
        self._requests: dict[str, RunningRequest] = {}
        self._steps = 0
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._drafted_tokens = 0
        self._accepted_tokens = 0
        self._numerical_errors = 0
        self._batch_sizes: dict[int, int] = {}
        self._watch = Stopwatch()

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to compute or to return."""
        return bool(self._requests)

    @property
    def stats(self) -> EngineStats:
        return EngineStats(
            self._steps,
            self._prompt_tokens,
            self._generated_tokens,
            self._drafted_tokens,
            self._accepted_tokens,
            self._scheduler.num_waiting,
            self._scheduler.num_running,
            dict(self._batch_sizes),
            self._watch.readings,
            self._cache_reading,
            self._numerical_errors,
        )

    @property
    def _cache_reading(self) -> CacheStats:
        slots = CacheStats(self._runner.kv_tokens, self._kv_budget.max_tokens, self._scheduler.num_preempted)
        if (kept := self._prefixes) is None:
            return slots
        return replace(
            slots,
            prefix_tokens=kept.num_tokens,
            prefix_hits=kept.hits,
            prefix_misses=kept.misses,
            saved_tokens=kept.saved_tokens,
        )

    @property
    def max_model_len(self) -> int:
        """Maximum length of a sequence's prompt and output: the model's limit, or less if memory is short."""
        return self._kv_budget.longest

    def add(
        self,
        request_id: str,
        request: ResolvedRequest,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,
    ) -> None:
        """Start a request.

        `so_far` is the released output of its choices, from position 0. It is processed like a prompt, and a choice
        that it finishes does not run. Keys and values are cached for later requests of the same `owner`. None: they are
        not cached. Raises RequestError if this model cannot serve the request.
        """
        assert request_id not in self._requests
        self._limits.check(request)
        try:
            entry = self._sequences.take(request_id, request, so_far)
        except (MemoryError, RequestError):
            raise
        except Exception as error:
            log.exception("cannot start request %s", request_id)
            raise RequestError(_error_info(error)) from error
        self._requests[request_id] = entry
        root = None if owner is None else prefix_root(owner, request.model_revision)
        for sequence in entry.outputs:
            sequence.prefix_root = root
            self._scheduler.add(sequence)

    def prepare(self, request: ResolvedRequest) -> None:
        """Compile the request's constraint before `add`. Blocks. The only method that other threads may call.

        Raises RequestError if `add` would.
        """
        if (constraint := request.sampling.constraint) is not None:
            self._sequences.grammars_for(constraint).prepare(constraint)

    def close(self) -> None:
        """End the process in which grammars are tested."""
        if self._grammars is not None:
            self._grammars.close()

    def abort(self, request_id: str) -> None:
        """Drop a request and its unreturned output. Does nothing if it is unknown."""
        entry = self._requests.pop(request_id, None)
        if entry is not None:
            self._end(entry)

    def step(self) -> list[EngineOutput]:
        """Run one forward pass for all running sequences. Returns the new output of each request."""
        self._watch.start()
        plan = self._scheduler.schedule()
        _note_cached(plan)
        self._watch.lap("schedule")
        if plan.rows:
            logits = self._runner.run(plan)
            self._watch.lap("run")
            scored_prompts, logits = read_prompts(plan, logits)
            draws = self._draws(plan)
            for scored in scored_prompts:
                self._add_prompt_logprobs(scored)
            self._watch.lap("postprocess")
            while draws:
                drawn = self._sampler.draw(logits, draws)
                self._watch.lap("sample")
                draws = self._postprocess(draws, drawn)
                self._watch.lap("postprocess")
            self._score_drafts(plan)
        return self._hand_out()

    def _draws(self, plan: Plan) -> list[Draw]:
        """Count what was computed. Returns the first token draws."""
        draws = plan.draws
        self._steps += 1
        if draws:
            self._batch_sizes[len(draws)] = self._batch_sizes.get(len(draws), 0) + 1
        for row in plan.rows:
            row.sequence.num_computed += row.num_own
            if row.num_own > 1:
                self._runner.keep(row.sequence)
            self._prompt_tokens += max(0, min(row.end, row.sequence.num_prompt_tokens) - row.start)
        return draws

    def _postprocess(self, draws: list[Draw], drawn: list[Drawn | Exception]) -> list[Draw]:
        """Add the drawn tokens to their sequences. Returns the next draws of sequences whose draft was right."""
        self._generated_tokens += len(drawn)
        continuing = []
        for draw, token in zip(draws, drawn, strict=True):
            sequence = draw.sequence
            entry = self._requests[sequence.request_id]
            if entry.error is not None:
                continue
            if isinstance(token, Exception):
                self._fail(entry, sequence, token)
                continue
            self._push(entry, sequence, token)
            if draw.draft[:1] == (token.token_id,):
                sequence.num_computed += 1
                if sequence in entry.outputs:
                    continuing.append(draw.next)
        return continuing

    def _score_drafts(self, plan: Plan) -> None:
        """Report to each drafter how many of its tokens were accepted."""
        for row in plan.rows:
            if row.draft and row.sequence.drafter is not None:
                num_accepted = row.sequence.num_computed - row.start - row.num_own
                row.sequence.drafter.learn(num_accepted)
                self._drafted_tokens += len(row.draft)
                self._accepted_tokens += num_accepted

    def _fail(self, entry: RunningRequest, sequence: Sequence, error: Exception) -> None:
        log.error("request %s failed at token %d", sequence.request_id, sequence.position, exc_info=error)
        entry.error = _error_info(error)
        if isinstance(error, NumericalError):
            self._numerical_errors += 1
            self._forget(entry)
        self._end(entry)

    def _forget(self, entry: RunningRequest) -> None:
        """Remove what the request computed from the prefix cache, and keep the rest out of it."""
        for sequence in entry.outputs:
            if self._prefixes is not None:
                self._prefixes.forget(sequence)
            sequence.prefix_root = None

    def _add_prompt_logprobs(self, scored: PromptLogprobCollector) -> None:
        sequence = scored.sequence
        assert sequence.num_prompt_scored is not None
        sequence.num_prompt_scored += len(scored.tokens)
        entry = self._requests[sequence.request_id]
        if scored.error is not None:
            return self._fail(entry, sequence, scored.error)
        try:
            entry.outputs[sequence].read_prompt(scored.tokens)
        except MemoryError:
            raise
        except Exception as error:
            self._fail(entry, sequence, error)

    def _push(self, entry: RunningRequest, sequence: Sequence, drawn: Drawn) -> None:
        try:
            sequence.append(drawn.token_id)
            output = entry.outputs[sequence].push(
                drawn.token_id, drawn.scores, is_complete=sequence.is_complete
            )
        except MemoryError:
            raise
        except Exception as error:
            return self._fail(entry, sequence, error)
        if output is None:
            return
        entry.take(output, sequence)
        if output.finish is not None:
            del entry.outputs[sequence]
            self._remove(sequence)

    def _end(self, entry: RunningRequest) -> None:
        for sequence in entry.outputs:
            self._remove(sequence)
        entry.outputs.clear()

    def _remove(self, sequence: Sequence) -> None:
        self._runner.keep(sequence)
        self._scheduler.remove(sequence)

    def _hand_out(self) -> list[EngineOutput]:
        outputs = [
            entry.hand_out(request_id)
            for request_id, entry in self._requests.items()
            if entry.choices or entry.is_over
        ]
        for output in outputs:
            if output.is_last:
                del self._requests[output.request_id]
        return outputs


def _note_cached(plan: Plan) -> None:
    for sequence in plan.admitted:
        if sequence.num_cached is None:
            sequence.num_cached = min(sequence.num_computed, sequence.num_prompt_tokens)


def _error_info(error: Exception) -> ErrorInfo:
    if isinstance(error, RequestError):
        return error.info
    return ErrorInfo(f"generation failed: {type(error).__name__}: {error}", code="engine_error")
