"""A backend without a model: every token is a function of seed, choice and position, as with a real one."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field

from shared.domain.histogram import HistogramReading
from shared.domain.output import ChoiceOutput, Finish
from shared.domain.request import ChatPrompt, GenerationRequest, Prompt, TextPrompt
from shared.domain.sampling import SamplingParams
from shared.domain.usage import Usage
from shared.errors import ErrorInfo, invalid_request
from workers.backends.local import LocalBackend
from workers.cache_stats import CacheStats
from workers.engine.resolved_request import ResolvedRequest

#: Longest prompt plus output, in tokens; a prompt has one for each word.
CONTEXT_LENGTH = 4096
#: Length of an answer to a last message that ends in no number.
ANSWER_LENGTH = 16


def scripted_token(seed: int, choice: int, position: int) -> int:
    """What is drawn there, always."""
    digest = hashlib.blake2b(f"{seed}/{choice}/{position}".encode(), digest_size=2).digest()
    return int.from_bytes(digest, "big")


def scripted_text(seed: int, choice: int, length: int) -> str:
    """The text of a choice up to `length` tokens."""
    return "".join(f"{scripted_token(seed, choice, position)} " for position in range(length))


def scripted_resolve(request: GenerationRequest) -> ResolvedRequest:
    """The answer to a prompt is as many tokens long as the number says in which its text ends, then `stop`;
    `length` when max_tokens comes first. Raises RequestError for a prompt beyond the context."""
    sampling = request.sampling
    return ResolvedRequest(
        prompts=tuple([_prompt_token_ids(prompt) for prompt in request.prompts]),
        sampling=SamplingParams(
            max_tokens=sampling.max_tokens or CONTEXT_LENGTH,
            seed=secrets.randbits(62) if sampling.seed is None else sampling.seed,
            n=request.n,
            constraint=request.constraint,
        ),
        stop_token_ids=(),
        model_revision="scripted-1",
    )


def _prompt_token_ids(prompt: Prompt) -> tuple[int, ...]:
    """One for each word; the last one is the length of the answer."""
    words = _text(prompt).split()
    number = re.search(r"(\d+)\W*$", words[-1]) if words else None
    if len(words) >= CONTEXT_LENGTH:
        raise invalid_request(
            f"This model's maximum context length is {CONTEXT_LENGTH} tokens.",
            param="messages",
            code="context_length_exceeded",
        )
    return *(len(word) for word in words[:-1]), int(number[1]) if number else ANSWER_LENGTH


def _text(prompt: Prompt) -> str:
    if isinstance(prompt, ChatPrompt):
        return " ".join([message.content for message in prompt.messages])
    return prompt.text if isinstance(prompt, TextPrompt) else " ".join(map(str, prompt.token_ids))


@dataclass(frozen=True, slots=True)
class ScriptedOutput:
    """As the engine's."""

    request_id: str
    choices: tuple[ChoiceOutput, ...]
    used: Usage = Usage()
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class ScriptedStats:
    """As the engine's."""

    steps: int
    generated_tokens: int
    running: int
    batch_sizes: dict[int, int]
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    prompt_tokens: int = 0
    phases: dict[str, HistogramReading] = field(default_factory=dict)
    cache: CacheStats = field(default_factory=CacheStats)
    numerical_errors: int = 0

    @property
    def mean_batch_size(self) -> float:
        steps = sum(self.batch_sizes.values())
        return sum(size * count for size, count in self.batch_sizes.items()) / steps if steps else 0.0


@dataclass(slots=True)
class _Running:
    request: ResolvedRequest
    #: Position of each choice that is not over.
    positions: dict[int, int] = field(default_factory=dict)
    #: Tokens of the prompts that no output has counted yet.
    num_prompt_tokens: int = 0


class ScriptedEngine:
    """One token a step for each choice of each request that has a slot."""

    def __init__(self, *, slots: int, step_s: float = 0.0) -> None:
        self._slots = slots
        self._step_s = step_s
        #: Every request that was ever added, by id.
        self.seen: list[str] = []
        #: Every request that was prepared.
        self.prepared: list[ResolvedRequest] = []
        self._requests: dict[str, _Running] = {}
        self._steps = 0
        self._batch_sizes = Counter[int]()

    @property
    def has_work(self) -> bool:
        return bool(self._requests)

    @property
    def stats(self) -> ScriptedStats:
        tokens = sum(size * count for size, count in self._batch_sizes.items())
        running = min(self._slots, sum(len(request.positions) for request in self._requests.values()))
        return ScriptedStats(self._steps, tokens, running, dict(self._batch_sizes))

    def prepare(self, request: ResolvedRequest) -> None:
        """Nothing of it takes long."""
        self.prepared.append(request)

    def add(
        self,
        request_id: str,
        request: ResolvedRequest,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,  # noqa: ARG002
    ) -> None:
        self.seen.append(request_id)
        positions = dict.fromkeys(range(request.num_choices), 0)
        positions.update({output.index: output.end for output in so_far})
        for output in so_far:
            if output.finish is not None:
                del positions[output.index]
        num_prompt_tokens = 0 if so_far else request.num_prompt_tokens
        self._requests[request_id] = _Running(request, positions, num_prompt_tokens)

    def abort(self, request_id: str) -> None:
        self._requests.pop(request_id, None)

    def step(self) -> list[ScriptedOutput]:
        time.sleep(self._step_s)
        self._steps += 1
        free, outputs = self._slots, []
        for request_id, running in list(self._requests.items()):
            choices = tuple(self._draw(running, choice) for choice in list(running.positions)[:free])
            free -= len(choices)
            if choices:
                used = Usage(running.num_prompt_tokens, len(choices))
                running.num_prompt_tokens = 0
                outputs.append(ScriptedOutput(request_id, choices, used))
            if not running.positions:
                del self._requests[request_id]
        if free < self._slots:
            self._batch_sizes[self._slots - free] += 1
        return outputs

    def _draw(self, running: _Running, choice: int) -> ChoiceOutput:
        sampling, position = running.request.sampling, running.positions[choice]
        token = scripted_token(sampling.seed, choice, position)
        finish: Finish | None = None
        if position + 1 >= running.request.prompt_of(choice)[-1]:
            finish = Finish("stop")
        elif position + 1 >= sampling.max_tokens:
            finish = Finish("length")
        running.positions[choice] += 1
        if finish is not None:
            del running.positions[choice]
        return ChoiceOutput(choice, position, (token,), (f"{token} ",), finish)


def scripted_backend(
    *, slots: int, step_s: float = 0.0, kind: type[ScriptedEngine] = ScriptedEngine
) -> LocalBackend:
    """A worker's backend around a ScriptedEngine."""
    engine = kind(slots=slots, step_s=step_s)
    return LocalBackend(engine, scripted_resolve, model_revision="scripted-1", is_exact=True)
