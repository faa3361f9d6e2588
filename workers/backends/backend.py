"""Backend: the interface of what generates a worker's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.domain.fingerprint import Fingerprint
from shared.domain.histogram import HistogramReading
from shared.domain.output import ChoiceOutput
from shared.domain.request import GenerationRequest
from shared.domain.usage import Usage
from shared.errors import ErrorInfo
from shared.store.append import Resolved
from shared.store.question import Answer, Question
from workers.cache_stats import CacheStats


class StepOutput(Protocol):
    """The new output of one request after a step."""

    @property
    def request_id(self) -> str: ...
    @property
    def choices(self) -> tuple[ChoiceOutput, ...]:
        """In order. A choice may occur several times. The heads need not be set."""

    @property
    def used(self) -> Usage:
        """The tokens that are counted with these units. Each token is counted once.

        At the latest, the output that ends the last choice counts the rest of the request's tokens.
        """

    @property
    def error(self) -> ErrorInfo | None:
        """Set if the request failed. The backend has dropped the request then."""


#: Takes the outputs of one step, for all requests together. May be called from any thread.
OnOutputs = Callable[[Sequence[StepOutput]], None]


@dataclass(frozen=True, slots=True)
class BackendStats:
    """Counters since the start, and the current load."""

    steps: int = 0
    #: Tokens drawn.
    tokens: int = 0
    #: Tokens that were guessed, and those of them that were drawn.
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    #: Prompt tokens computed.
    prompt_tokens: int = 0
    #: Sequences that run now.
    running: int = 0
    #: Mean and maximum number of sequences that drew a token in the same step.
    batch_mean: float = 0.0
    batch_max: int = 0
    #: Number of sequences that drew a token in a step -> number of such steps.
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    #: Seconds by part of a step.
    phases: Mapping[str, HistogramReading] = field(default_factory=dict)
    cache: CacheStats = field(default_factory=CacheStats)
    #: Requests that failed because the model's logits were NaN or infinite.
    numerical_errors: int = 0


class Backend(Protocol):
    """Generates output for many requests at once.

    Each backend has its own form of resolved requests. It is given only those that its `resolve` or `load` returned.

    `resolve`, `answer`, `prepare` and `stop` are called on the worker's event loop and must not block it. The other
    methods return at once and may be called from any thread.
    """

    @property
    def model_revision(self) -> str:
        """Fingerprint of the model's weights and tokenizer. Empty: any worker may continue the job."""

    @property
    def is_exact(self) -> bool:
        """Whether an interrupted answer continues exactly as it would have without the interruption."""

    @property
    def can_continue(self) -> bool:
        """Whether it can continue an answer that has released output."""

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Workers with the same fingerprint continue each other's answers exactly. None: unknown."""

    @property
    def max_model_len(self) -> int | None:
        """Maximum number of tokens of prompt and answer together. None: unknown."""

    @property
    def stats(self) -> BackendStats: ...

    @property
    def stalled_s(self) -> float:
        """For how many seconds there has been work but no step."""

    async def resolve(self, request: GenerationRequest) -> Resolved:
        """Fill in everything that a request leaves open. Raises RequestError."""

    async def answer(self, question: Question) -> Answer:
        """Answer what a replica asks about the tokenizer. Raises RequestError."""

    def load(self, raw: str) -> Resolved:
        """Decode a resolved request that a worker with the same backend stored. Raises DecodeError."""

    async def prepare(self, resolved: Resolved) -> None:
        """Do the slow work before `add`, also for a request that another worker resolved.

        A malicious request can take seconds. Raises RequestError if the request cannot be served.
        """

    def start(self, on_outputs: OnOutputs, on_death: Callable[[BaseException], None]) -> None:
        """Start. `on_death` is called if the backend fails, which loses its requests."""

    def add(
        self,
        request_id: str,
        resolved: Resolved,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,
    ) -> None:
        """Start a request after its released output `so_far`. A refused request produces an output with an error."""

    def abort(self, request_id: str) -> None:
        """Drop a request. Does nothing if it is unknown."""

    async def stop(self) -> None:
        """Stop, after the last outputs were delivered to `on_outputs`."""
