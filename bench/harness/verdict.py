"""Compares answers that were computed in some way with the same answers computed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.domain.output import ChoiceOutput

#: Answers with log probabilities, or the ends of such answers, by request.
Answers = dict[int, ChoiceOutput]

HEADING = (
    "| an answer alone, against | answers | tokens | other tokens | other log probabilities | what was done "
    "|\n|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    way: str
    answers: int
    tokens: int
    different_tokens: int
    different_logprobs: int
    #: Evidence that the way was exercised, such as the number of preemptions or copied tokens.
    proof: str

    @property
    def is_equal(self) -> bool:
        return self.tokens > 0 and self.different_tokens == self.different_logprobs == 0


def compare(way: str, alone: Answers, answers: Answers, proof: str) -> Verdict:
    """Compares each of `answers`, from where it starts, with the same answer in `alone`."""
    tokens = different_tokens = different_logprobs = 0
    for number, found in answers.items():
        wanted = alone[number].since(found.start)
        assert found.logprobs is not None and wanted.logprobs is not None
        assert found.token_ids is not None and wanted.token_ids is not None
        tokens += len(wanted.token_ids)
        different_tokens += _differences(found.token_ids, wanted.token_ids)
        different_logprobs += _differences(found.logprobs, wanted.logprobs)
    return Verdict(way, len(answers), tokens, different_tokens, different_logprobs, proof)


def row(verdict: Verdict) -> str:
    counts = (verdict.answers, verdict.tokens, verdict.different_tokens, verdict.different_logprobs)
    return f"| {verdict.way} | {' | '.join(map(str, counts))} | {verdict.proof} |"


def _differences(ours: Sequence[object], others: Sequence[object]) -> int:
    """The number of differing elements. Extra elements of the longer one count as differences."""
    common = sum(one != other for one, other in zip(ours, others, strict=False))
    return common + abs(len(ours) - len(others))
