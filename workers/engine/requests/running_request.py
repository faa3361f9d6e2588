"""RunningRequest: a request inside the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from shared.domain.events import ChoiceOutput
from shared.domain.job import ResolvedRequest
from shared.domain.prompt_logprobs import PromptToken
from shared.errors import ErrorInfo
from workers.engine.sampling.logprobs import Scores
from workers.engine.scheduling.sequence import Sequence


class TokenSink(Protocol):
    """What turns the drawn tokens of one choice into output; an OutputBuilder."""

    def read_prompt(self, tokens: list[PromptToken]) -> None: ...
    def push(
        self, token_id: int, scores: Scores | None = None, *, is_complete: bool = False
    ) -> ChoiceOutput | None: ...
    def replay(self, so_far: ChoiceOutput, *, is_complete: bool = False) -> ChoiceOutput | None: ...


#: (request, choice) -> what takes the choice's tokens.
MakeOutput = Callable[[ResolvedRequest, int], TokenSink]


@dataclass(slots=True)
class RunningRequest:
    """Its sequences that still run, and what the next step hands out for it."""

    outputs: dict[Sequence, TokenSink] = field(default_factory=dict)
    choices: list[ChoiceOutput] = field(default_factory=list)
    error: ErrorInfo | None = None

    @property
    def is_over(self) -> bool:
        return not self.outputs
