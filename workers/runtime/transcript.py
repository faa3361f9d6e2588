"""Transcript: the complete output of a job while it runs here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.domain.events import Entry, Output
from shared.domain.output import ChoiceOutput, Finish, Head, Op, TokenLogprobs
from shared.domain.prompt_logprobs import PromptLogprobs
from shared.domain.usage import Usage
from shared.errors import DecodeError


class Progress(NamedTuple):
    """How far a job's output has progressed, for each choice."""

    positions: tuple[int, ...]
    is_finished: tuple[bool, ...]
    #: The state after the last unit, with which the next entry of the stream begins.
    heads: tuple[Head, ...]

    @classmethod
    def none(cls, num_choices: int) -> Progress:
        """Return the progress before the first unit."""
        return cls((0,) * num_choices, (False,) * num_choices, (Head(),) * num_choices)

    def after(self, choices: Iterable[ChoiceOutput]) -> Progress:
        """Return the progress after these outputs, which directly follow it and have their heads set."""
        positions, is_finished, heads = list(self.positions), list(self.is_finished), list(self.heads)
        for choice in choices:
            positions[choice.index] = choice.end
            heads[choice.index] = choice.head_after
            if choice.finish is not None:
                is_finished[choice.index] = True
        return Progress(tuple(positions), tuple(is_finished), tuple(heads))


class _Choice:
    """One choice. It is mutable, so that adding a unit does not copy the units before it."""

    def __init__(self) -> None:
        #: None after a unit without an id.
        self.token_ids: list[int] | None = []
        self.texts: list[str] = []
        self.finish: Finish | None = None
        self._marks: dict[int, tuple[Op, ...]] = {}
        self._logprobs: list[TokenLogprobs] | None = None
        self._prompt_logprobs: PromptLogprobs | None = None

    def take(self, output: ChoiceOutput) -> None:
        assert output.start == len(self.texts) and self.finish is None
        if output.token_ids is None:
            self.token_ids = None if output.texts else self.token_ids
        elif self.token_ids is not None:
            self.token_ids += output.token_ids
        self.texts += output.texts
        self.finish = output.finish
        if output.marks is not None:
            self._marks.update({output.start + offset: ops for offset, ops in output.marks.items()})
        if output.logprobs is not None:
            self._logprobs = self._logprobs or []
            self._logprobs += output.logprobs
        if output.prompt_logprobs is not None:
            self._prompt_logprobs = output.prompt_logprobs

    def output(self, index: int, start: int, head: Head) -> ChoiceOutput:
        """Return the units from `start` on. `head`: the state before them."""
        return ChoiceOutput(
            index,
            start,
            None if self.token_ids is None else tuple(self.token_ids[start:]),
            tuple(self.texts[start:]),
            self.finish,
            None if self._logprobs is None else tuple(self._logprobs[start:]),
            head,
            self._marks_since(start) if self._marks else None,
            None if start else self._prompt_logprobs,
        )

    def _marks_since(self, start: int) -> dict[int, tuple[Op, ...]] | None:
        positions = range(start, len(self.texts))
        return {at - start: self._marks[at] for at in positions if at in self._marks} or None


class Transcript:
    """All generated output, also what was written already: if Redis loses the end of a stream, it is written again."""

    def __init__(self, num_choices: int) -> None:
        self._choices = [_Choice() for _ in range(num_choices)]
        #: Number of units of each choice.
        self.positions = (0,) * num_choices
        #: Whether every choice has ended.
        self.is_finished = False
        #: Tokens used so far.
        self.used = Usage()

    @classmethod
    def of(cls, entries: Iterable[Entry], num_choices: int) -> Transcript:
        """Build the transcript from a job's stream. Raises DecodeError if its entries do not follow one another."""
        transcript = cls(num_choices)
        for entry in entries:
            if isinstance(entry.event, Output):
                if not all(map(transcript._is_next, entry.event.choices)):
                    raise DecodeError("stream", entry)
                transcript.take(entry.event.choices)
            transcript.used = entry.used
        return transcript

    def _is_next(self, output: ChoiceOutput) -> bool:
        """Whether an output directly follows what is there of its choice."""
        if not 0 <= output.index < len(self._choices):
            return False
        choice, num_ids = self._choices[output.index], len(output.token_ids or ())
        has_all_ids = output.token_ids is None or num_ids == len(output.texts)
        return has_all_ids and output.start == len(choice.texts) and choice.finish is None

    @property
    def finishes(self) -> tuple[Finish | None, ...]:
        return tuple([choice.finish for choice in self._choices])

    @property
    def progress(self) -> Progress:
        """The progress so far. Reads the whole transcript."""
        return Progress.none(len(self._choices)).after(self.so_far())

    def take(self, choices: Sequence[ChoiceOutput], used: Usage | None = None) -> None:
        """Add outputs that directly follow, and the tokens that they used. Their heads are ignored."""
        for output in choices:
            self._choices[output.index].take(output)
            if output.finish is not None:
                self.is_finished = None not in self.finishes
        self.positions = tuple([len(choice.texts) for choice in self._choices])
        if used is not None:
            self.used = self.used.plus(used)

    def since(self, progress: Progress) -> Output | None:
        """Return the output after `progress`. None: there is none."""
        choices = [
            choice.output(index, start, head)
            for index, (choice, start, was_finished, head) in enumerate(
                zip(self._choices, *progress, strict=True)
            )
            if len(choice.texts) > start or (choice.finish is not None and not was_finished)
        ]
        return Output(tuple(choices)) if choices else None

    def so_far(self) -> tuple[ChoiceOutput, ...]:
        """Return all output of the choices that have any."""
        output = self.since(Progress.none(len(self._choices)))
        return output.choices if output else ()
