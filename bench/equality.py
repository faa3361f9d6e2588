"""Checks that an answer is bit for bit the same, however it is batched, chunked or resumed.

    python -m bench.equality [--model DIR] [--requests 92] [--tokens 128] [--report FILE]

Each request is answered alone first. Then all are answered again in several other ways, and every token and log
probability is compared with the first answer. Half of the requests are greedy. The others sample at temperature 1,
where a difference in a logit's last bit shows sooner. Exits with 1 if anything differs.
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
from msgspec import structs

from bench.harness.verdict import HEADING, Answers, Verdict, compare, row
from bench.peers.report.machine import describe_machine
from bench.perplexity import TEXT
from shared.domain.output import ChoiceOutput
from shared.domain.sampling import SamplingParams
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.loading.loader import LoadedModel, load_model
from workers.engine.resolved_request import ResolvedRequest

#: Prompt lengths: less than a chunk, several chunks, and so long that the answer outgrows its first slot.
_PROMPT_LENGTHS = (9, 70, 200, 460, 505)
_OWNER = "bench"


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """A request, and the part of its answer that is already known."""

    number: int
    request: ResolvedRequest
    so_far: ChoiceOutput | None = None
    owner: str | None = None

    @property
    def num_known(self) -> int:
        return 0 if self.so_far is None else self.so_far.end


def requests(loaded: LoadedModel, number: int, num_tokens: int) -> list[ResolvedRequest]:
    """Requests whose prompts start at different positions of a text, and whose answers end only at the limit."""
    text = loaded.tokenizer(TEXT.read_text(encoding="utf-8"), add_special_tokens=False).input_ids
    chance = random.Random(0)
    found = []
    for index in range(number):
        length = min(_PROMPT_LENGTHS[index % len(_PROMPT_LENGTHS)], loaded.max_model_len - num_tokens)
        start = chance.randrange(len(text) - length)
        sampling = SamplingParams(max_tokens=num_tokens, seed=index, temperature=index % 2, logprobs=0)
        found.append(ResolvedRequest((tuple(text[start : start + length]),), sampling, (), loaded.revision))
    return found


def answer(engine: Engine, batch: Sequence[BenchRequest], *, each_s_steps: int = 0) -> Answers:
    """The newly generated part of each answer. Requests arrive `each_s_steps` steps apart; 0: all at once."""
    waiting, answers, steps = list(batch), Answers(), 0
    while waiting or engine.has_work:
        while waiting and (not each_s_steps or steps >= each_s_steps * (len(batch) - len(waiting))):
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
    """Compares the answers of differently used engines of one model."""

    def __init__(self, loaded: LoadedModel, config: EngineConfig, number: int, num_tokens: int) -> None:
        self._loaded = loaded
        self._config = config
        self._requests = [
            BenchRequest(index, one) for index, one in enumerate(requests(loaded, number, num_tokens))
        ]
        self._alone: Answers = {}

    def verdicts(self) -> Iterator[Verdict]:
        """Yields one verdict for each way. The reference answers are computed first."""
        for one in self._requests:
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
        answers = answer(engine, self._requests)
        return compare(
            "in one batch", self._alone, answers, f"{engine.stats.mean_batch_size:.1f} rows a step"
        )

    def _arriving(self) -> Verdict:
        engine = self._engine()
        answers = answer(engine, self._requests, each_s_steps=3)
        proof = f"one every 3 steps, {engine.stats.mean_batch_size:.1f} rows a step"
        return compare("arriving one by one", self._alone, answers, proof)

    def _in_small_chunks(self) -> Verdict:
        answers = answer(self._engine(replace(self._config, prefill_chunk=24)), self._requests)
        return compare("prompts in small chunks", self._alone, answers, "24 tokens a chunk")

    def _read_again(self) -> Verdict:
        """The cache holds only two of the longest answers, so sequences are preempted."""
        longest = max(len(one.request.prompts[0]) for one in self._requests)
        sampling = self._requests[0].request.sampling
        num_longest = 512 * math.ceil((longest + sampling.max_tokens) / 512)
        engine = self._engine(replace(self._config, max_kv_tokens=2 * num_longest))
        answers = answer(engine, self._requests)
        proof = f"{engine.stats.cache.preempted} sequences lost their slot"
        return compare("read again after losing the slot", self._alone, answers, proof)

    def _continued(self) -> Verdict:
        """Continues each answer from a random point in its first quarter, as another worker would."""
        chance = random.Random(1)
        batch = [self._cut(one, chance) for one in self._requests]
        known = sum(one.num_known for one in batch)
        return compare(
            "continued elsewhere", self._alone, answer(self._engine(), batch), f"{known} tokens known"
        )

    def _cut(self, one: BenchRequest, chance: random.Random) -> BenchRequest:
        whole = self._alone[one.number]
        end = chance.randint(1, max(1, whole.end // 4))
        assert whole.token_ids is not None and whole.logprobs is not None
        known = structs.replace(
            whole,
            token_ids=whole.token_ids[:end],
            texts=whole.texts[:end],
            finish=None,
            logprobs=whole.logprobs[:end],
        )
        return replace(one, so_far=known)

    def _with_prefixes(self) -> Verdict:
        """Sends all requests twice. The second time, prefixes are copied from the cache.

        The order is reversed because the cache only has room for the latest requests.
        """
        engine, batch = self._engine(), [replace(one, owner=_OWNER) for one in self._requests]
        answer(engine, batch)
        before = engine.stats.cache.saved_tokens
        answers = answer(engine, batch[::-1])
        proof = f"{engine.stats.cache.saved_tokens - before} tokens of prompts copied"
        return compare("after a copied prefix", self._alone, answers, proof)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default=".baton/models/SmolLM2-135M-Instruct")
    parser.add_argument("--requests", type=int, default=92)
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each answer")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    config = EngineConfig(options.model, threads=options.threads, max_kv_tokens=65536)
    loaded = load_model(config)
    lines = [
        f"{Path(options.model).name}, {loaded.model.dtype}, {torch.get_num_threads()} threads, "
        f"{'exact' if loaded.is_exact else 'not exact'} by the trial at load\n",
        HEADING,
    ]
    print("\n".join(lines), flush=True)
    verdicts = []
    for verdict in Equality(loaded, config, options.requests, options.tokens).verdicts():
        verdicts.append(verdict)
        lines.append(row(verdict))
        print(lines[-1], flush=True)
    if options.report is not None:
        command = shlex.join(["python", "-m", "bench.equality", *sys.argv[1:]])
        head = f"# One answer, computed in several ways\n\n`{command}`, {describe_machine()}."
        options.report.write_text("\n".join([f"{head}\n", *lines]) + "\n", encoding="utf-8")
    return int(not all(verdict.is_equal for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
