"""Every sampling parameter, from a request's body to its tokens: wherever another worker goes on, it goes on
with the same ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api.schemas.chat import read_chat
from shared.events import ChoiceOutput
from shared.job import ResolvedRequest
from tests.features import NAMES, PLAIN, features
from tests.tiny_chat_model import make_tiny_chat_model
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine, make_engine
from workers.engine.loader import load_model
from workers.resolver import Resolver
from workers.transcript import Transcript

PROMPT = [{"role": "user", "content": "count from 1 to 30"}]


@dataclass
class Worker:
    """What a worker does with bodies, without queues."""

    resolver: Resolver
    engine: Engine
    released: dict[str, list[ChoiceOutput]] = field(default_factory=dict)

    @classmethod
    def start(cls, directory: Path) -> Worker:
        config = EngineConfig(model=str(directory), dtype="float32", max_slots=32, threads=1)
        loaded = load_model(config)
        assert loaded.is_exact
        resolver = Resolver.from_directory(directory, loaded.revision)
        return cls(resolver, make_engine(loaded, config))

    def resolve(self, fields: dict[str, Any]) -> ResolvedRequest:
        body = read_chat({"model": "tiny", "messages": PROMPT, **fields}).to_body()
        return self.resolver.resolve(body, n=body["n"])

    def add(self, name: str, request: ResolvedRequest, released: Iterable[ChoiceOutput] = ()) -> None:
        """Go on behind what was released, as a worker does that has read the job's stream."""
        self.released[name] = list(released)
        so_far = folded(self.released[name], request.sampling.n).so_far()
        self.engine.add(name, request, so_far)

    def run(self) -> None:
        while self.engine.has_work:
            for output in self.engine.step():
                assert output.error is None, output.error
                self.released[output.request_id] += output.choices

    def answer(self, name: str, n: int) -> tuple[ChoiceOutput, ...]:
        return folded(self.released[name], n).so_far()


def folded(released: Iterable[ChoiceOutput], n: int) -> Transcript:
    transcript = Transcript(n)
    transcript.take(released)
    return transcript


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return Worker.start(make_tiny_chat_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def asked(worker: Worker) -> dict[str, dict[str, Any]]:
    """The body of each feature."""
    worker.add("plain", worker.resolve(PLAIN))
    worker.run()
    return features(worker.answer("plain", 1)[0].text)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_the_same_wherever_another_worker_goes_on(
    worker: Worker, asked: dict[str, dict[str, Any]], name: str
) -> None:
    request = worker.resolve(asked[name])
    worker.add("whole", request)
    worker.run()
    whole, released = worker.answer("whole", request.sampling.n), list(worker.released["whole"])
    assert all(choice.finish is not None for choice in whole)
    # Each continuation has those at other cuts for neighbours.
    cuts = [str(cut) for cut in range(len(released) + 1)]
    for cut in cuts:
        worker.add(cut, request, released[: int(cut)])
    worker.run()
    for cut in cuts:
        assert worker.answer(cut, request.sampling.n) == whole, cut
