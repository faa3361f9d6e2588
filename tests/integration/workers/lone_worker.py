"""LoneWorker: what a worker does with requests, without queues."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.dialects.openai_chat.schema import read_chat
from shared.domain.output import ChoiceOutput
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig, Speculation
from workers.engine.engine import Engine
from workers.engine.loading.loader import load_model
from workers.engine.resolved_request import ResolvedRequest
from workers.requests.resolver import Resolver
from workers.runtime.transcript import Transcript

PROMPT = [{"role": "user", "content": "count from 1 to 30"}]


@dataclass
class LoneWorker:
    """One engine and its resolver."""

    resolver: Resolver
    engine: Engine
    released: dict[str, list[ChoiceOutput]] = field(default_factory=dict)

    @classmethod
    def start(cls, directory: Path, speculation: Speculation = "auto") -> LoneWorker:
        config = EngineConfig(
            model=str(directory), dtype="float32", speculation=speculation, max_slots=32, threads=1
        )
        loaded = load_model(config)
        assert loaded.is_exact
        resolver = Resolver.from_directory(directory, loaded.revision)
        return cls(resolver, make_engine(loaded, config))

    def resolve(self, fields: dict[str, Any]) -> ResolvedRequest:
        chat = read_chat({"model": "tiny", "messages": PROMPT, **fields})
        return self.resolver.resolve(chat.request())

    def add(self, name: str, request: ResolvedRequest, released: Iterable[ChoiceOutput] = ()) -> None:
        """Go on behind what was released, as a worker does that has read the job's stream."""
        self.released[name] = list(released)
        so_far = folded(self.released[name], request.num_choices).so_far()
        self.engine.add(name, request, so_far)

    def run(self) -> None:
        while self.engine.has_work:
            for output in self.engine.step():
                assert output.error is None, output.error
                self.released[output.request_id] += output.choices

    def answer(self, name: str, n: int) -> tuple[ChoiceOutput, ...]:
        return folded(self.released[name], n).so_far()


def folded(released: Sequence[ChoiceOutput], n: int) -> Transcript:
    transcript = Transcript(n)
    transcript.take(released)
    return transcript
