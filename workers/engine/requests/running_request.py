"""RunningRequest: the state of a request in the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from shared.domain.output import ChoiceOutput, Reasoning
from shared.domain.prompt_logprobs import PromptToken
from shared.domain.usage import Usage
from shared.errors import ErrorInfo
from workers.engine.output import EngineOutput
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.logprobs import Scores
from workers.engine.scheduling.sequence import Sequence


class TokenSink(Protocol):
    """Converts the drawn tokens of one choice to output. Implemented by OutputBuilder."""

    def read_prompt(self, tokens: list[PromptToken]) -> None: ...
    def push(
        self, token_id: int, scores: Scores | None = None, *, is_complete: bool = False
    ) -> ChoiceOutput | None: ...
    def replay(self, so_far: ChoiceOutput, *, is_complete: bool = False) -> ChoiceOutput | None: ...


#: (request, choice) -> the sink for the choice's tokens.
MakeOutput = Callable[[ResolvedRequest, int], TokenSink]


@dataclass(slots=True)
class RunningRequest:
    """Running sequences of a request, and the output that the next step returns."""

    #: Prompt tokens that no output has counted yet.
    num_prompt_tokens: int = 0
    outputs: dict[Sequence, TokenSink] = field(default_factory=dict)
    choices: list[ChoiceOutput] = field(default_factory=list)
    error: ErrorInfo | None = None
    #: Prompt tokens that were found in the prefix cache and that no output has counted yet. They are counted with the
    #: first unit of a prompt's first choice.
    num_cached_tokens: int = 0
    #: Whether drawn tokens count. Those of a request that only looks at its prompt do not.
    counts_output: bool = True

    @property
    def is_over(self) -> bool:
        return not self.outputs

    def take(self, output: ChoiceOutput, sequence: Sequence) -> None:
        """Add the new output of one choice."""
        self.choices.append(output)
        if output.start == 0 and sequence.choice % sequence.sampling.n == 0:
            self.num_cached_tokens += sequence.num_cached or 0

    def hand_out(self, request_id: str) -> EngineOutput:
        """Return the output since the last call."""
        output = EngineOutput(request_id, tuple(self.choices), self._used(), self.error, self.is_over)
        self.choices.clear()
        return output

    def _used(self) -> Usage:
        num_prompt, num_cached = self.num_prompt_tokens, self.num_cached_tokens
        num_tokens, num_reasoning = 0, 0
        for choice in self.choices:
            num_tokens += len(choice.texts)
            num_reasoning += _num_reasoning(choice)
        if num_tokens == 0:
            return Usage()
        self.num_prompt_tokens = self.num_cached_tokens = 0
        return Usage(num_prompt, num_tokens if self.counts_output else 0, num_cached, num_reasoning)


def _num_reasoning(output: ChoiceOutput) -> int:
    """Return the number of tokens that add reasoning."""
    if not output.marks and output.head.kind != "reasoning":
        return 0
    return len({position for position, _, op in output.ops() if isinstance(op, Reasoning)})
