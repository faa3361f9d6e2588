"""A backend without tokens: a service that streams pieces of an answer, with finish reasons and usage of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from shared.domain.fingerprint import Fingerprint
from shared.domain.output import Args, ChoiceOutput, Finish, Op, Reasoning, Refusal, Text
from shared.domain.request import ChatPrompt, GenerationRequest
from shared.domain.usage import Usage
from shared.errors import DecodeError, ErrorInfo, RequestError
from shared.store.append import Resolved
from shared.store.question import Answer as QuestionAnswer
from shared.store.question import Question
from workers.backends.backend import BackendStats, OnOutputs

STOP = Finish("stop")


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What is sent to the service; it has nothing in common with the local engine's."""

    question: str
    model_revision: str = ""

    def encode(self) -> str:
        return json.dumps({"question": self.question})

    @classmethod
    def decode(cls, raw: str) -> UpstreamRequest:
        """Raises DecodeError."""
        try:
            return cls(json.loads(raw)["question"])
        except (ValueError, KeyError, TypeError) as error:
            raise DecodeError("upstream request", raw) from error


@dataclass(frozen=True, slots=True)
class UpstreamOutput:
    """What came within one step."""

    request_id: str
    choices: tuple[ChoiceOutput, ...]
    used: Usage = Usage()
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service says to every question."""

    ops: Sequence[Op]
    finish: Finish = STOP
    used: Usage = Usage()

    @property
    def atoms(self) -> list[Op]:
        """The same, character by character."""
        return [atom for op in self.ops for atom in _atoms(op)]


@dataclass(slots=True)
class _Streaming:
    rest: list[Op]
    position: int
    #: Kind of the text that the last piece ended in.
    kind: type[Op] | None = field(default=None)


class ScriptedUpstream:
    """Hands over one piece of each answer a step, `piece` characters long. Continues by what was released, character
    for character, where it can: pieces may be of another length then."""

    def __init__(
        self,
        answer: Answer,
        *,
        can_continue: bool,
        piece: int = 3,
        step_s: float = 0.002,
        is_late: bool = False,
    ) -> None:
        """`is_late`: it never says anything."""
        self._answer = answer
        self._can_continue = can_continue
        self._piece = piece
        self._step_s = step_s
        self._is_late = is_late
        self._streams: dict[str, _Streaming] = {}
        self._pump: asyncio.Task[None] | None = None
        self._steps = 0
        #: What was resolved, and what was loaded from the store.
        self.resolved: list[UpstreamRequest] = []
        self.loaded: list[UpstreamRequest] = []

    @property
    def model_revision(self) -> str:
        return ""

    @property
    def is_exact(self) -> bool:
        return False

    @property
    def can_continue(self) -> bool:
        return self._can_continue

    @property
    def max_model_len(self) -> int | None:
        return None

    @property
    def fingerprint(self) -> Fingerprint | None:
        return None

    @property
    def stats(self) -> BackendStats:
        return BackendStats(steps=self._steps, running=len(self._streams))

    @property
    def stalled_s(self) -> float:
        return 0.0

    async def resolve(self, request: GenerationRequest) -> UpstreamRequest:
        (prompt,) = request.prompts
        if not isinstance(prompt, ChatPrompt):
            raise RequestError(ErrorInfo("This service chats.", status=400))
        self.resolved.append(UpstreamRequest(prompt.messages[-1].content))
        return self.resolved[-1]

    async def answer(self, question: Question) -> QuestionAnswer:  # noqa: ARG002
        raise RequestError(ErrorInfo("This service has no tokenizer.", status=501))

    def load(self, raw: str) -> UpstreamRequest:
        self.loaded.append(UpstreamRequest.decode(raw))
        return self.loaded[-1]

    async def prepare(self, resolved: Resolved) -> None:
        """Nothing of it takes long."""

    def start(self, on_outputs: OnOutputs, on_death: Callable[[BaseException], None]) -> None:  # noqa: ARG002
        self._pump = asyncio.create_task(self._run(on_outputs))

    def add(
        self,
        request_id: str,
        resolved: Resolved,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,  # noqa: ARG002
    ) -> None:
        assert isinstance(resolved, UpstreamRequest)
        assert self._can_continue or not so_far
        released = [atom for output in so_far for _, _, op in output.ops() for atom in _atoms(op)]
        atoms = self._answer.atoms
        assert atoms[: len(released)] == released, "the service has changed its answer"
        position = so_far[0].end if so_far else 0
        kind = next((type(op) for op in reversed(released)), None)
        self._streams[request_id] = _Streaming(atoms[len(released) :], position, kind)

    def abort(self, request_id: str) -> None:
        self._streams.pop(request_id, None)

    async def stop(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump

    async def _run(self, on_outputs: OnOutputs) -> None:
        while True:
            await asyncio.sleep(self._step_s)
            self._steps += 1
            if self._streams and not self._is_late:
                on_outputs(
                    [self._next(request_id, stream) for request_id, stream in list(self._streams.items())]
                )

    def _next(self, request_id: str, stream: _Streaming) -> UpstreamOutput:
        atoms, stream.rest = stream.rest[: self._piece], stream.rest[self._piece :]
        is_last = not stream.rest
        output = ChoiceOutput(
            0,
            stream.position,
            None,
            ("".join([atom.text for atom in atoms if isinstance(atom, Text)]),),
            self._answer.finish if is_last else None,
            marks=None if _is_plain(atoms, stream.kind) else {0: _merged(atoms)},
        )
        stream.position += 1
        stream.kind = type(atoms[-1]) if atoms else stream.kind
        if is_last:
            del self._streams[request_id]
        return UpstreamOutput(request_id, (output,), self._answer.used if is_last else Usage())


def _atoms(op: Op) -> Iterator[Op]:
    if isinstance(op, Text | Reasoning | Refusal | Args):
        yield from [type(op)(character) for character in op.text]
    else:
        yield op


def _is_plain(atoms: Sequence[Op], kind: type[Op] | None) -> bool:
    return kind in (None, Text) and all(isinstance(atom, Text) for atom in atoms)


def _merged(atoms: Sequence[Op]) -> tuple[Op, ...]:
    merged: list[Op] = []
    for atom in atoms:
        if (
            merged
            and isinstance(atom, Text | Reasoning | Refusal | Args)
            and isinstance(last := merged[-1], type(atom))
        ):
            merged[-1] = type(atom)(last.text + atom.text)
        else:
            merged.append(atom)
    return tuple(merged)
