"""Engine: generates for many requests at once. Single-threaded by contract; starts no thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from shared.constraint import Constraint
from shared.errors import ErrorInfo, RequestError, invalid_request
from shared.events import ChoiceOutput
from shared.histogram import HistogramReading
from shared.job import ResolvedRequest
from shared.prompt_logprobs import PromptToken
from workers.engine.adjustments import Adjustments
from workers.engine.admission import Admission
from workers.engine.cache_reading import CacheReading
from workers.engine.config import EngineConfig
from workers.engine.detokenizer import TokenBytes
from workers.engine.drafter import Drafter
from workers.engine.free_memory import OutOfMemory, kv_tokens
from workers.engine.grammar_cache import GrammarCache
from workers.engine.kv_budget import KVBudget
from workers.engine.kv_cache import KVSpan
from workers.engine.kv_form import make_budget
from workers.engine.loader import LoadedModel
from workers.engine.logprobs import Scores
from workers.engine.model_runner import ModelRunner
from workers.engine.output_builder import OutputBuilder
from workers.engine.prefix_cache import PrefixCache, prefix_root
from workers.engine.prompt_scores import PromptScores, read_prompts
from workers.engine.sampler import Drawn, Sampler, SampleRow
from workers.engine.scheduler import Plan, Scheduler, Turn
from workers.engine.sequence import Sequence
from workers.engine.stopwatch import Stopwatch
from workers.engine.token_filter import TokenFilter
from workers.engine.token_mask import TokenRule
from workers.engine.vocabulary import Vocabulary

log = logging.getLogger(__name__)


#: The prefix cache holds this part of as many tokens as there may be in slots.
_PREFIX_PART = 4
#: A layer of width h multiplies some 12 h * h for each token, and 2 h for each of its keys, twice as slowly.
_SPAN_PER_WIDTH = 3


class TokenSink(Protocol):
    """What turns the drawn tokens of one choice into output; an OutputBuilder."""

    def read_prompt(self, tokens: list[PromptToken]) -> None: ...
    def push(
        self, token_id: int, scores: Scores | None = None, *, is_complete: bool = False
    ) -> ChoiceOutput | None: ...
    def replay(self, so_far: ChoiceOutput, *, is_complete: bool = False) -> ChoiceOutput | None: ...


#: (request, choice) -> what takes the choice's tokens.
MakeOutput = Callable[[ResolvedRequest, int], TokenSink]


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """What became final for one request in one step."""

    request_id: str
    #: In their order; a choice that drew several tokens may be there several times.
    choices: tuple[ChoiceOutput, ...]
    #: Set when the request failed; the engine has dropped it then.
    error: ErrorInfo | None = None
    #: Whether the request has left the engine: every choice ended, or it failed.
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the start, and how many sequences wait and run now."""

    steps: int
    prompt_tokens: int
    generated_tokens: int
    #: Tokens that were guessed, and those of them that were then drawn.
    drafted_tokens: int
    accepted_tokens: int
    waiting: int
    running: int
    #: How many steps drew a token for how many sequences: shows whether the batch was shared.
    batch_sizes: Mapping[int, int]
    #: Seconds by part of a step.
    phases: Mapping[str, HistogramReading]
    cache: CacheReading

    @property
    def mean_batch_size(self) -> float:
        steps = sum(self.batch_sizes.values())
        return sum(size * count for size, count in self.batch_sizes.items()) / steps if steps else 0.0


@dataclass(slots=True)
class _Request:
    """A request inside: its sequences that still run, and what the next step hands out for it."""

    outputs: dict[Sequence, TokenSink] = field(default_factory=dict)
    choices: list[ChoiceOutput] = field(default_factory=list)
    error: ErrorInfo | None = None

    @property
    def is_over(self) -> bool:
        return not self.outputs


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
        """`make_drafter`: for each sequence; None where a token computed together with others may not be the
        one that it is alone, or where nothing is to be guessed."""
        self._runner = runner
        self._scheduler = scheduler
        self._sampler = sampler
        self._make_output = make_output
        self._kv_budget = kv_budget
        self._grammars = grammars
        self._prefixes = prefixes
        self._make_drafter = make_drafter
        self._admission = Admission(kv_budget.longest, runner.vocab_size)
        self._requests: dict[str, _Request] = {}
        self._steps = 0
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._drafted_tokens = 0
        self._accepted_tokens = 0
        self._batch_sizes: dict[int, int] = {}
        self._watch = Stopwatch()

    @property
    def has_work(self) -> bool:
        """Whether `step` would do or hand out something."""
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
        )

    @property
    def _cache_reading(self) -> CacheReading:
        slots = CacheReading(
            self._runner.kv_tokens, self._kv_budget.max_tokens, self._scheduler.num_preempted
        )
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
        """Prompt and output of one sequence: what the model was made for, or less where memory is short."""
        return self._kv_budget.longest

    def add(
        self,
        request_id: str,
        request: ResolvedRequest,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,
    ) -> None:
        """Takes a request up. `so_far` holds, from position 0, what has been released of each choice that has
        released something: it is read as prompt, and a choice that it finishes is not run. What was computed
        for an owner is kept for their next requests; None: nothing is.

        Raises RequestError where this model cannot serve the request; it is not taken then.
        """
        assert request_id not in self._requests
        self._admission.check(request)
        released = {output.index: output for output in so_far}
        entry = _Request()
        try:
            for choice in range(request.sampling.n):
                self._start(entry, request_id, request, choice, released.get(choice))
        except (MemoryError, RequestError):
            raise
        except Exception as error:
            log.exception("request %s cannot begin", request_id)
            raise RequestError(_error_info(error)) from error
        self._requests[request_id] = entry
        root = None if owner is None else prefix_root(owner, request.model_revision)
        for sequence in entry.outputs:
            sequence.prefix_root = root
            self._scheduler.add(sequence)

    def prepare(self, request: ResolvedRequest) -> None:
        """Compiles what `add` would be long at. Blocking; the one method for other threads than the engine's.

        Raises RequestError as `add` does.
        """
        if (constraint := request.sampling.constraint) is not None:
            self._grammars_for(constraint).prepare(constraint)

    def close(self) -> None:
        """Ends the process in which grammars are tried."""
        if self._grammars is not None:
            self._grammars.close()

    def abort(self, request_id: str) -> None:
        """Drops a request, with what it has not handed out; an unknown one is nothing to drop."""
        entry = self._requests.pop(request_id, None)
        if entry is not None:
            self._end(entry)

    def step(self) -> list[EngineOutput]:
        """One forward for all that runs; answers what it made final, per request."""
        self._watch.start()
        plan = self._scheduler.schedule()
        self._watch.lap("schedule")
        if plan.rows:
            logits = self._runner.run(plan)
            self._watch.lap("run")
            prompts, logits = read_prompts(plan, logits)
            turns = self._turns(plan)
            for told in prompts:
                self._tell(told)
            self._watch.lap("postprocess")
            while turns:
                drawn = self._draw(logits, turns)
                self._watch.lap("sample")
                turns = self._postprocess(turns, drawn)
                self._watch.lap("postprocess")
            self._judge(plan)
        return self._hand_out()

    def _start(
        self,
        entry: _Request,
        request_id: str,
        request: ResolvedRequest,
        choice: int,
        released: ChoiceOutput | None,
    ) -> None:
        if released is not None and released.finish is not None:
            return
        output = self._make_output(request, choice)
        sequence = self._sequence(request_id, request, choice, released.token_ids if released else ())
        if released is not None:
            end = output.replay(released, is_complete=sequence.is_complete)
            if end is not None:
                entry.choices.append(end)
                return
        entry.outputs[sequence] = output

    def _sequence(
        self, request_id: str, request: ResolvedRequest, choice: int, so_far: tuple[int, ...]
    ) -> Sequence:
        """A choice that goes on behind these tokens of its output."""
        sampling, prompt = request.sampling, request.prompt_token_ids
        adjustments = Adjustments.of(sampling, request.stop_token_ids, prompt, so_far)
        matcher: TokenRule | None = None
        if (constraint := sampling.constraint) is not None:
            matcher = self._grammars_for(constraint).begin(constraint, request.stop_token_ids)
        matcher = TokenFilter.of(sampling, self._runner.vocab_size, matcher)
        if matcher is not None:
            for token_id in so_far:
                matcher.push(token_id)
        # Once a token is released, so is what there was to tell of the prompt.
        num_told = 0 if sampling.tells_prompt(choice) and not so_far else None
        drafter = None if self._make_drafter is None else self._make_drafter()
        return Sequence(
            request_id,
            choice,
            sampling,
            [*prompt, *so_far],
            len(prompt),
            adjustments,
            matcher,
            num_told=num_told,
            drafter=drafter,
        )

    def _grammars_for(self, constraint: Constraint) -> GrammarCache:
        if self._grammars is None:
            raise invalid_request("This model has no tokenizer to constrain.", param=constraint.field)
        return self._grammars

    def _draw(self, logits: Tensor, turns: list[Turn]) -> list[Drawn | Exception]:
        """A token for each turn, or why that one alone has none. Raises what is no single row's fault."""
        rows = [_sample_row(turn.sequence) for turn in turns]
        if len(turns) < len(logits):
            indices = torch.tensor([turn.index for turn in turns], device=logits.device)
            logits = logits.index_select(0, indices)
        try:
            return [*self._sampler.sample(logits, rows)]
        except MemoryError:
            raise
        except Exception:
            drawn = [self._draw_alone(logits[i : i + 1], row) for i, row in enumerate(rows)]
            num_failed = sum(isinstance(one, Exception) for one in drawn)
            if num_failed == 0 or num_failed == len(rows) > 1:
                raise
            return drawn

    def _draw_alone(self, logits: Tensor, row: SampleRow) -> Drawn | Exception:
        try:
            return self._sampler.sample(logits, [row])[0]
        except MemoryError:
            raise
        except Exception as error:
            return error

    def _turns(self, plan: Plan) -> list[Turn]:
        """Counts what was computed; which tokens are drawn of it first."""
        turns = plan.turns
        self._steps += 1
        if turns:
            self._batch_sizes[len(turns)] = self._batch_sizes.get(len(turns), 0) + 1
        for row in plan.rows:
            row.sequence.num_computed += row.num_own
            if row.num_own > 1:
                self._runner.keep(row.sequence)
            self._prompt_tokens += max(0, min(row.end, row.sequence.num_prompt_tokens) - row.start)
        return turns

    def _postprocess(self, turns: list[Turn], drawn: list[Drawn | Exception]) -> list[Turn]:
        """Takes what was drawn; answers whose token was as guessed, and what they draw next."""
        self._generated_tokens += len(drawn)
        going_on = []
        for turn, token in zip(turns, drawn, strict=True):
            sequence = turn.sequence
            entry = self._requests[sequence.request_id]
            if entry.error is not None:
                continue
            if isinstance(token, Exception):
                self._fail(entry, sequence, token)
                continue
            self._push(entry, sequence, token)
            if turn.draft[:1] == (token.token_id,):
                sequence.num_computed += 1
                if sequence in entry.outputs:
                    going_on.append(turn.next)
        return going_on

    def _judge(self, plan: Plan) -> None:
        """Tells drafters what became of their drafts."""
        for row in plan.rows:
            if row.draft and row.sequence.drafter is not None:
                num_accepted = row.sequence.num_computed - row.start - row.num_own
                row.sequence.drafter.learn(num_accepted)
                self._drafted_tokens += len(row.draft)
                self._accepted_tokens += num_accepted

    def _fail(self, entry: _Request, sequence: Sequence, error: Exception) -> None:
        log.error("request %s failed at token %d", sequence.request_id, sequence.position, exc_info=error)
        entry.error = _error_info(error)
        self._end(entry)

    def _tell(self, told: PromptScores) -> None:
        sequence = told.sequence
        assert sequence.num_told is not None
        sequence.num_told += len(told.tokens)
        entry = self._requests[sequence.request_id]
        try:
            entry.outputs[sequence].read_prompt(told.tokens)
        except MemoryError:
            raise
        except Exception as error:
            self._fail(entry, sequence, error)

    def _push(self, entry: _Request, sequence: Sequence, drawn: Drawn) -> None:
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
        entry.choices.append(output)
        if output.finish is not None:
            del entry.outputs[sequence]
            self._remove(sequence)

    def _end(self, entry: _Request) -> None:
        for sequence in entry.outputs:
            self._remove(sequence)
        entry.outputs.clear()

    def _remove(self, sequence: Sequence) -> None:
        self._runner.keep(sequence)
        self._scheduler.remove(sequence)

    def _hand_out(self) -> list[EngineOutput]:
        outputs = [
            EngineOutput(request_id, tuple(entry.choices), entry.error, entry.is_over)
            for request_id, entry in self._requests.items()
            if entry.choices or entry.is_over
        ]
        for output in outputs:
            self._requests[output.request_id].choices.clear()
            if output.is_last:
                del self._requests[output.request_id]
        return outputs


def make_engine(loaded: LoadedModel, config: EngineConfig) -> Engine:
    """An engine for a model that `loader.load_model` made of the same config."""
    tokenizer = loaded.tokenizer.backend_tokenizer
    token_bytes = TokenBytes(tokenizer)
    budget = _kv_budget(loaded, config)
    prefixes = PrefixCache[KVSpan]((budget.max_tokens or 0) // _PREFIX_PART)
    runner = ModelRunner(loaded.model, budget, prefixes)
    runner.record_decoding(config.max_slots)
    return Engine(
        runner,
        Scheduler(
            max_slots=config.max_slots,
            prefill_chunk=config.prefill_chunk,
            max_step_tokens=config.max_step_tokens,
            kv_budget=budget,
            prefixes=prefixes,
            attention_span=_SPAN_PER_WIDTH * loaded.model.config.get_text_config().hidden_size,
        ),
        Sampler(),
        lambda request, choice: OutputBuilder(token_bytes, request, choice),
        budget,
        prefixes,
        GrammarCache(lambda: Vocabulary.of(tokenizer, runner.vocab_size)),
        Drafter if config.speculation == "auto" and loaded.is_exact else None,
    )


def _kv_budget(loaded: LoadedModel, config: EngineConfig) -> KVBudget:
    """What is configured, or what the memory holds that is free now. Raises OutOfMemory."""
    model, longest = loaded.model, loaded.max_model_len
    token_bytes = ModelRunner(model, make_budget(model, 1)).measure_token()
    budget = make_budget(model, longest, config.max_kv_tokens or kv_tokens(token_bytes))
    if budget.longest == 0:
        raise OutOfMemory(f"there is memory for the keys and values of only {budget.max_tokens} tokens")
    if budget.longest < longest:
        log.warning("sequences have at most %d tokens: no memory for %d", budget.longest, longest)
    return budget


def _sample_row(sequence: Sequence) -> SampleRow:
    return SampleRow(
        sequence.sampling, sequence.choice, sequence.position, sequence.adjustments, sequence.matcher
    )


def _error_info(error: Exception) -> ErrorInfo:
    if isinstance(error, RequestError):
        return error.info
    return ErrorInfo(f"generation failed: {type(error).__name__}: {error}", code="engine_error")
