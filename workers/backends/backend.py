"""Backend: what a worker generates with, as the rest of the worker sees it."""

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
from workers.cache_stats import CacheStats


class StepOutput(Protocol):
    """What one step made final for one request."""

    @property
    def request_id(self) -> str: ...
    @property
    def choices(self) -> tuple[ChoiceOutput, ...]:
        """In their order; a choice may be there several times. Their heads need not be filled in."""

    @property
    def used(self) -> Usage:
        """The tokens to count with these units, and with none before. All of a request's tokens are counted at the
        latest with the output that ends its last choice."""

    @property
    def error(self) -> ErrorInfo | None:
        """Set when the request failed; the backend has dropped it then."""


#: Takes the outputs of one step, for all requests together. May be called from any thread.
OnOutputs = Callable[[Sequence[StepOutput]], None]


@dataclass(frozen=True, slots=True)
class BackendStats:
    """Counters since the start, and what runs now."""

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
    #: Sequences that drew a token together: mean and most over all steps.
    batch_mean: float = 0.0
    batch_max: int = 0
    #: How many steps drew a token for how many sequences.
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    #: Seconds by part of a step.
    phases: Mapping[str, HistogramReading] = field(default_factory=dict)
    cache: CacheStats = field(default_factory=CacheStats)


class Backend(Protocol):
    """Generates for many requests at once. It has a form of its own for resolved requests: those that it is given
    are the ones that it made or loaded.

    `resolve`, `prepare` and `stop` are called on the worker's event loop and must not block it. The rest returns
    at once and may be called from any thread.
    """

    @property
    def model_revision(self) -> str:
        """Fingerprint of what generates: the model's weights and tokenizer. Empty: any worker may continue."""

    @property
    def is_exact(self) -> bool:
        """Whether a continuation equals, bit for bit, what would have been generated without a break."""

    @property
    def can_continue(self) -> bool:
        """Whether it can continue an answer of which something was released."""

    @property
    def fingerprint(self) -> Fingerprint | None:
        """What must be the same in another worker for that to hold between them; None where it is unknown."""

    @property
    def stats(self) -> BackendStats: ...

    @property
    def stalled_s(self) -> float:
        """For how long there has been work and no step."""

    async def resolve(self, request: GenerationRequest) -> Resolved:
        """Decide what a request leaves open. Raises RequestError."""

    def load(self, raw: str) -> Resolved:
        """Read what a worker with such a backend stored. Raises DecodeError."""

    async def prepare(self, resolved: Resolved) -> None:
        """Do beforehand what `add` would be long at, here or for a request that another worker resolved.

        Takes seconds where somebody means harm. Raises RequestError where the request cannot be served.
        """

    def start(self, on_outputs: OnOutputs, on_death: Callable[[BaseException], None]) -> None:
        """Begin to run. `on_death` is called when it cannot go on; its requests are lost then."""

    def add(
        self,
        request_id: str,
        resolved: Resolved,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,
    ) -> None:
        """Begin a request behind what `so_far` has released of it. One that is refused comes out as an error."""

    def abort(self, request_id: str) -> None:
        """Drop a request; does nothing for an unknown one."""

    async def stop(self) -> None:
        """Stop. When this returns, the last outputs have been handed out."""
