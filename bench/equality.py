"""Whether an answer is the same, bit for bit, in whatever company and order it is computed.

    python -m bench.equality [--model DIR] [--requests 92] [--tokens 128] [--report FILE]

Each request is answered alone; then all are answered again in every other way, and each token, with its log
probability, is held against the first. Half of the requests are greedy, half drawn at temperature 1, where a
logit that differs in its last bit shows sooner. Exits with 1 where something differs.
"""

from __future__ import annotations

import argparse
import math
import random
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bench.harness.verdict import HEADING, Answers, Verdict, compare, row
from bench.peers.report.machine import describe_machine
from bench.perplexity import TEXT
from shared.domain.events import ChoiceOutput
from shared.domain.job import ResolvedRequest
from shared.domain.sampling import SamplingParams
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.loading.loader import LoadedModel, load_model

#: Tokens of prompts: less than a chunk, some chunks, and so many that an answer outgrows its first slot.
_PROMPT_LENGTHS = (9, 70, 200, 460, 505)
_OWNER = "bench"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what has been released of its answer."""

    number: int
    request: ResolvedRequest
    so_far: ChoiceOutput | None = None
    owner: str | None = None

    @property
    def num_known(self) -> int:
        return 0 if self.so_far is None else self.so_far.end


def requests(loaded: LoadedModel, number: int, num_tokens: int) -> list[ResolvedRequest]:
    """That begin at different places of a text, and end at their limit alone."""
    text = loaded.tokenizer(TEXT.read_text(), add_special_tokens=False).input_ids
    chance = random.Random(0)
    found = []
    for index in range(number):
        length = min(_PROMPT_LENGTHS[index % len(_PROMPT_LENGTHS)], loaded.max_model_len - num_tokens)
        start = chance.randrange(len(text) - length)
        sampling = SamplingParams(max_tokens=num_tokens, seed=index, temperature=index % 2, logprobs=0)
        found.append(ResolvedRequest(tuple(text[start : start + length]), sampling, (), loaded.revision))
    return found


def answer(engine: Engine, asked: Sequence[Asked], *, each_s_steps: int = 0) -> Answers:
    """What is newly made of each; they arrive so many steps apart, 0: at once."""
    waiting, answers, steps = list(asked), Answers(), 0
    while waiting or engine.has_work:
        while waiting and (not each_s_steps or steps >= each_s_steps * (len(asked) - len(waiting))):
            one = waiting.pop(0)
            so_far = () if one.so_far is None else (one.so_far,)
            engine.add(str(one.number), one.request, so_far, owner=one.owner)
        for output in engine.step():
            for choice in output.choices:
                before = answers.get(int(output.request_id))
                answers[int(output.request_id)] = before.joined(choice) if before else choice
        steps += 1
    return answers


class Equality:
    """Of a model's engines with one another."""

    def __init__(self, loaded: LoadedModel, config: EngineConfig, number: int, num_tokens: int) -> None:
        self._loaded = loaded
        self._config = config
        self._asked = [Asked(index, one) for index, one in enumerate(requests(loaded, number, num_tokens))]
        self._alone: Answers = {}

    def verdicts(self) -> Iterator[Verdict]:
        """The first answers are made when the first verdict is asked for."""
        for one in self._asked:
            self._alone |= answer(self._engine(), [one])
        ways: tuple[Callable[[], Verdict], ...] = (
            self._batched, self._arriving, self._in_small_chunks, self._read_again, self._continued,
            self._with_prefixes,
        )  # fmt: skip
        for way in ways:
            yield way()

    def _engine(self, config: EngineConfig | None = None) -> Engine:
        return make_engine(self._loaded, config or self._config)

    def _batched(self) -> Verdict:
        engine = self._engine()
        answers = answer(engine, self._asked)
        return compare(
            "in one batch", self._alone, answers, f"{engine.stats.mean_batch_size:.1f} rows a step"
        )

    def _arriving(self) -> Verdict:
        engine = self._engine()
        answers = answer(engine, self._asked, each_s_steps=3)
        proof = f"one every 3 steps, {engine.stats.mean_batch_size:.1f} rows a step"
        return compare("arriving one by one", self._alone, answers, proof)

    def _in_small_chunks(self) -> Verdict:
        answers = answer(self._engine(replace(self._config, prefill_chunk=24)), self._asked)
        return compare("prompts in small chunks", self._alone, answers, "24 tokens a chunk")

    def _read_again(self) -> Verdict:
        """In a cache that holds two of the longest answers, so that sequences lose their slots."""
        longest = max(len(one.request.prompt_token_ids) for one in self._asked)
        sampling = self._asked[0].request.sampling
        num_longest = 512 * math.ceil((longest + sampling.max_tokens) / 512)
        engine = self._engine(replace(self._config, max_kv_tokens=2 * num_longest))
        answers = answer(engine, self._asked)
        proof = f"{engine.stats.cache.preempted} sequences lost their slot"
        return compare("read again after losing the slot", self._alone, answers, proof)

    def _continued(self) -> Verdict:
        """As by another worker, from anywhere in the first quarter."""
        chance = random.Random(1)
        asked = [self._cut(one, chance) for one in self._asked]
        known = sum(one.num_known for one in asked)
        return compare(
            "continued elsewhere", self._alone, answer(self._engine(), asked), f"{known} tokens known"
        )

    def _cut(self, one: Asked, chance: random.Random) -> Asked:
        whole = self._alone[one.number]
        end = chance.randint(1, max(1, whole.end // 4))
        assert whole.logprobs is not None
        begun = replace(
            whole,
            token_ids=whole.token_ids[:end],
            texts=whole.texts[:end],
            finish=None,
            logprobs=whole.logprobs[:end],
        )
        return replace(one, so_far=begun)

    def _with_prefixes(self) -> Verdict:
        """Asked twice: the second time what the first has computed is copied, of those asked last, since
        there is not memory for all."""
        engine, asked = self._engine(), [replace(one, owner=_OWNER) for one in self._asked]
        answer(engine, asked)
        before = engine.stats.cache.saved_tokens
        answers = answer(engine, asked[::-1])
        proof = f"{engine.stats.cache.saved_tokens - before} tokens of prompts copied"
        return compare("after a copied prefix", self._alone, answers, proof)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default=".baton/models/SmolLM2-135M-Instruct")
    parser.add_argument("--requests", type=int, default=92)
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--report", type=Path, help="page to write")
    options = parser.parse_args()
    config = EngineConfig(options.model, threads=options.threads, max_kv_tokens=65536)
    loaded = load_model(config)
    told = [
        f"{Path(options.model).name}, {loaded.model.dtype}, {torch.get_num_threads()} threads, "
        f"{'exact' if loaded.is_exact else 'not exact'} by the trial at load\n",
        HEADING,
    ]
    print("\n".join(told), flush=True)
    verdicts = []
    for verdict in Equality(loaded, config, options.requests, options.tokens).verdicts():
        verdicts.append(verdict)
        told.append(row(verdict))
        print(told[-1], flush=True)
    if options.report is not None:
        command = shlex.join(["python", "-m", "bench.equality", *sys.argv[1:]])
        head = f"# One answer, computed in several ways\n\n`{command}`, {describe_machine()}."
        options.report.write_text("\n".join([f"{head}\n", *told]) + "\n")
    return int(not all(verdict.is_equal for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
