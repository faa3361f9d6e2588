"""SequenceFactory: creates the sequences of a request, from its start or after its released output."""

from __future__ import annotations

from collections.abc import Callable

from shared.domain.constraint import Constraint
from shared.domain.output import ChoiceOutput
from shared.errors import invalid_request
from workers.engine.constraints.grammar_cache import GrammarCache
from workers.engine.constraints.token_filter import TokenFilter
from workers.engine.constraints.token_mask import TokenRule
from workers.engine.requests.running_request import MakeOutput, RunningRequest
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.logit_adjustments import LogitAdjustments
from workers.engine.scheduling.drafter import Drafter
from workers.engine.scheduling.sequence import Sequence


class SequenceFactory:
    def __init__(
        self,
        make_output: MakeOutput,
        vocab_size: int,
        grammars: GrammarCache | None,
        make_drafter: Callable[[], Drafter] | None,
    ) -> None:
        self._make_output = make_output
        self._vocab_size = vocab_size
        self._grammars = grammars
        self._make_drafter = make_drafter

    def take(
        self, request_id: str, request: ResolvedRequest, so_far: tuple[ChoiceOutput, ...]
    ) -> RunningRequest:
        """Return the request's state, with a sequence for each unfinished choice. Raises RequestError."""
        released = {output.index: output for output in so_far}
        # If output was released, the prompts have been counted.
        is_begun = any(output.texts for output in so_far)
        entry = RunningRequest(
            num_prompt_tokens=0 if is_begun else request.num_prompt_tokens,
            counts_output=not request.sampling.prompt_only,
        )
        for choice in range(request.num_choices):
            self._start(entry, request_id, request, choice, released.get(choice))
        return entry

    def grammars_for(self, constraint: Constraint) -> GrammarCache:
        """Return the grammars. Raises RequestError if there are none."""
        if self._grammars is None:
            raise invalid_request("This model has no tokenizer to constrain.", param=constraint.field)
        return self._grammars

    def _start(
        self,
        entry: RunningRequest,
        request_id: str,
        request: ResolvedRequest,
        choice: int,
        released: ChoiceOutput | None,
    ) -> None:
        if released is not None and released.finish is not None:
            return
        output = self._make_output(request, choice)
        sequence = self._sequence(request_id, request, choice, released.ids if released else ())
        if released is not None:
            end = output.replay(released, is_complete=sequence.is_complete)
            if end is not None:
                entry.choices.append(end)
                return
        entry.outputs[sequence] = output

    def _sequence(
        self, request_id: str, request: ResolvedRequest, choice: int, so_far: tuple[int, ...]
    ) -> Sequence:
        """Return a sequence that continues a choice after these output tokens."""
        sampling, prompt = request.sampling, request.prompt_of(choice)
        adjustments = LogitAdjustments.of(sampling, request.stop_token_ids, prompt, so_far)
        matcher: TokenRule | None = None
        if (constraint := sampling.constraint) is not None:
            matcher = self.grammars_for(constraint).begin(constraint, request.stop_token_ids)
        matcher = TokenFilter.of(sampling, self._vocab_size, matcher)
        if matcher is not None:
            for token_id in so_far:
                matcher.push(token_id)
        # The first released token has carried the log probabilities of the prompt.
        num_prompt_scored = 0 if sampling.wants_prompt_logprobs(choice) and not so_far else None
        drafter = None if self._make_drafter is None else self._make_drafter()
        return Sequence(
            request_id,
            choice,
            sampling,
            [*prompt, *so_far],
            len(prompt),
            adjustments,
            matcher,
            num_prompt_scored=num_prompt_scored,
            drafter=drafter,
        )
