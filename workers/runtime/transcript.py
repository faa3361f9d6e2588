"""Transcript: all output of one job, kept whole as long as the job runs here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.domain.events import ChoiceOutput, Entry, FinishReason, Output, TokenLogprobs
from shared.domain.prompt_logprobs import PromptLogprobs


class Progress(NamedTuple):
    """How far a job's output has come, per choice."""

    positions: tuple[int, ...]
    is_finished: tuple[bool, ...]

    def after(self, choices: Iterable[ChoiceOutput]) -> Progress:
        """The progress once these, which follow it, are there."""
        positions, is_finished = list(self.positions), list(self.is_finished)
        for choice in choices:
            positions[choice.index] = choice.end
            is_finished[choice.index] |= choice.finish is not None
        return Progress(tuple(positions), tuple(is_finished))


class _Choice:
    """One choice: mutable, so that a token costs no copy of those before it."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprobs] | None = None
        self.prompt_logprobs: PromptLogprobs | None = None
        self.finish: FinishReason | None = None

    def take(self, output: ChoiceOutput) -> None:
        assert output.start == len(self.token_ids) and self.finish is None
        self.token_ids += output.token_ids
        self.texts += output.texts
        if output.logprobs is not None:
            self.logprobs = [*(self.logprobs or ()), *output.logprobs]
        self.prompt_logprobs = self.prompt_logprobs or output.prompt_logprobs
        self.finish = output.finish

    def output(self, index: int, start: int) -> ChoiceOutput:
        token_ids, texts = tuple(self.token_ids[start:]), tuple(self.texts[start:])
        logprobs = None if self.logprobs is None else tuple(self.logprobs[start:])
        prompt_logprobs = None if start else self.prompt_logprobs
        return ChoiceOutput(index, start, token_ids, texts, self.finish, logprobs, prompt_logprobs)


class Transcript:
    """What has been generated, sent or not: Redis may lose the end of a stream, and it is sent again."""

    def __init__(self, n: int) -> None:
        self._choices = [_Choice() for _ in range(n)]
        self.progress = Progress((0,) * n, (False,) * n)

    @classmethod
    def of(cls, entries: Iterable[Entry], n: int) -> Transcript:
        """What a job's stream holds."""
        transcript = cls(n)
        for entry in entries:
            if isinstance(entry.event, Output):
                transcript.take(entry.event.choices)
        return transcript

    @property
    def finishes(self) -> tuple[FinishReason | None, ...]:
        return tuple(choice.finish for choice in self._choices)

    @property
    def is_finished(self) -> bool:
        return all(self.progress.is_finished)

    def take(self, choices: Sequence[ChoiceOutput]) -> None:
        """Add what directly follows."""
        for output in choices:
            self._choices[output.index].take(output)
        self.progress = self.progress.after(choices)

    def since(self, progress: Progress) -> Output | None:
        """What follows `progress`; None when nothing does."""
        choices = [
            choice.output(index, start)
            for index, (choice, start, was_finished) in enumerate(zip(self._choices, *progress, strict=True))
            if len(choice.token_ids) > start or (choice.finish is not None and not was_finished)
        ]
        return Output(tuple(choices)) if choices else None

    def so_far(self) -> tuple[ChoiceOutput, ...]:
        """Everything, for those choices that have something."""
        n = len(self._choices)
        output = self.since(Progress((0,) * n, (False,) * n))
        return output.choices if output else ()
