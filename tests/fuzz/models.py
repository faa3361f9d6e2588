"""The model fuzzer: each mutated model is run right, or refused by name in one attempt."""

from __future__ import annotations

import random
import re
import shutil
import tempfile
from pathlib import Path

from shared.runtime.exit_codes import EX_CONFIG
from tests.fuzz.base_models import gguf_of, make_base_model
from tests.fuzz.model_mutations import Mutation, mutate
from tests.fuzz.model_trial import Outcome, ask_transformers, start_worker
from tests.fuzz.tally import Budget, Tally

#: One in so many models is a GGUF file.
_GGUF_EVERY = 6


def run(bases: Bases, seed: int, budget: Budget, tally: Tally, *, first: int = 0) -> None:
    """Try mutated models. `first`: number of the first mutation, to continue a run."""
    number = first
    while budget.is_left(number - first):
        try_one(bases, seed, number, tally)
        number += 1


def try_one(bases: Bases, seed: int, number: int, tally: Tally) -> None:
    """Try the mutation with this number: the same at every call."""
    chance = random.Random(f"{seed}/{number}")
    with tempfile.TemporaryDirectory(prefix="baton-model-") as home:
        path = bases.copy(Path(home), is_gguf=number % _GGUF_EVERY == 0)
        mutation = mutate(chance, path)
        example = f"{number}: {mutation.file} {mutation.what}"
        outcome = start_worker(path)
        if (wrong := _wrong_end(outcome)) is not None:
            tally.add(mutation.group, "ended otherwise")
            return tally.fault(mutation.group, wrong, example)
        if outcome.status == EX_CONFIG:
            return _judge_refusal(mutation, path, outcome, example, tally)
        _judge_start(mutation, path, outcome, example, bases, tally)


class Bases:
    """The models that are copied and mutated, and their answers."""

    def __init__(self, directory: Path, gguf: Path) -> None:
        self._paths = {False: directory, True: gguf}
        self.answers: dict[bool, list[int]] = {}
        for is_gguf, path in self._paths.items():
            own, theirs = start_worker(path), ask_transformers(path)
            assert own.token_ids and own.token_ids == theirs.token_ids, (own, theirs)
            self.answers[is_gguf] = own.token_ids

    @classmethod
    def make(cls, home: Path) -> Bases:
        """Write the models in `home`. This process forks, and so must not have torch's threads."""
        return cls(make_base_model(home), gguf_of(home))

    def copy(self, home: Path, *, is_gguf: bool) -> Path:
        """Return the path of a new copy in `home`."""
        source = self._paths[is_gguf]
        copy = home / source.name
        if is_gguf:
            shutil.copy(source, copy)
        else:
            shutil.copytree(source, copy)
        return copy


def _wrong_end(outcome: Outcome) -> str | None:
    """Say what is wrong with the end of a worker. None: it answered, or refused its configuration."""
    if outcome.status in (0, EX_CONFIG):
        return None
    if outcome.status is None:
        return "hangs, or takes more than its time"
    if outcome.status < 0:
        return f"ended by signal {-outcome.status}"
    kind = outcome.last_error.partition(":")[0][:80]
    places = re.findall(r'File "[^"]*/((?:workers|shared)/[^"]+)", line (\d+)', outcome.stderr)
    place = f" at {places[-1][0]}:{places[-1][1]}" if places else ""
    return f"exit {outcome.status}: {kind}{place}"


def _judge_refusal(mutation: Mutation, path: Path, outcome: Outcome, example: str, tally: Tally) -> None:
    said = outcome.stderr
    if mutation.file in said:
        return tally.add(mutation.group, "refused, names the file")
    if str(path) in said or path.name in said:
        return tally.add(mutation.group, "refused, names the model")
    tally.add(mutation.group, "refused without a name")
    tally.fault(mutation.group, f"refused without a name: {outcome.last_error[:100]}", example)


def _judge_start(
    mutation: Mutation, path: Path, outcome: Outcome, example: str, bases: Bases, tally: Tally
) -> None:
    """A start is right if the answer is that of transformers."""
    theirs = ask_transformers(path)
    if outcome.token_ids is None:
        tally.add(mutation.group, "starts, refuses requests with an error")
        if theirs.token_ids is not None:
            tally.fault(
                mutation.group,
                f"starts, then refuses what transformers answers: {outcome.report.get('code')}",
                example,
            )
    elif theirs.token_ids is not None:
        is_right = _is_same(outcome.token_ids, theirs.token_ids)
        tally.add(mutation.group, "right" if is_right else "another answer")
        if not is_right:
            tally.fault(
                mutation.group,
                "another answer than transformers gives",
                f"{example} ours {outcome.token_ids} theirs {theirs.token_ids}",
            )
    elif outcome.token_ids == bases.answers[path.suffix == ".gguf"]:
        tally.add(mutation.group, "right, where transformers refuses")
    else:
        tally.add(mutation.group, "starts where transformers refuses")
        tally.fault(
            mutation.group,
            "an answer of its own where transformers refuses",
            f"{example} theirs {theirs.last_error[:80]}",
        )


def _is_same(ours: list[int], theirs: list[int]) -> bool:
    """transformers also returns the token that ends an answer."""
    return ours in (theirs, theirs[:-1])
