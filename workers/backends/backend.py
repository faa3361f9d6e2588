"""Backend: what a worker generates with, as the rest of the worker sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.domain.events import ChoiceOutput
from shared.domain.fingerprint import Fingerprint
from shared.domain.histogram import HistogramReading
from shared.domain.job import ResolvedRequest
from shared.errors import ErrorInfo
from workers.engine.cache_stats import CacheStats


class StepOutput(Protocol):
    """What one step made final for one request."""

    @property
    def request_id(self) -> str: ...
    @property
    def choices(self) -> tuple[ChoiceOutput, ...]: ...
    @property
    def error(self) -> ErrorInfo | None:
        """Set when the request failed; the backend has dropped it then."""


#: Called from the backend's own thread after a step that made something final.
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
    """Generates for many requests at once, on a thread of its own. To be called from any thread."""

    @property
    def model_revision(self) -> str:
        """Fingerprint of the model's weights and tokenizer."""

    @property
    def is_exact(self) -> bool:
        """Whether a continuation equals, bit for bit, what would have been generated without a break."""

    @property
    def fingerprint(self) -> Fingerprint | None:
        """What must be the same in another worker for that to hold between them; None where it is unknown."""

    @property
    def stats(self) -> BackendStats: ...

    @property
    def stalled_s(self) -> float:
        """For how long there has been work and no step."""

    def resolve(self, body: dict[str, Any], *, n: int) -> ResolvedRequest:
        """What a request means. Blocking. Raises RequestError."""

    def prepare(self, request: ResolvedRequest) -> None:
        """Do beforehand what `add` would be long at, here or for a request that another worker resolved.
        Blocking, for seconds where somebody means harm. Raises RequestError where it cannot be served."""

    def start(self, on_outputs: OnOutputs, on_death: Callable[[BaseException], None]) -> None:
        """Begin to run. `on_death` is called when it cannot go on; its requests are lost then."""

    def add(
        self,
        request_id: str,
        request: ResolvedRequest,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,
    ) -> None:
        """Take a request up behind what `so_far` has released of it. One it refuses comes out as an error."""

    def abort(self, request_id: str) -> None:
        """Drop a request; an unknown one is nothing to drop."""

    def stop(self) -> None:
        """Stop stepping; the last step's outputs have been handed out when this returns. Blocking."""
