"""Transcript: what two recordings of a forward have in common, as one function in Python.

Anything else that went through the calls would take longer over each than to make it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from workers.engine.recording import Call, NotReplayable, Recording, is_plain

#: Takes the forward's inputs by name and answers the logits.
Play = Callable[..., torch.Tensor]

_NUM_TOKENS = "num_tokens"


def transcribe(first: Recording, second: Recording) -> Play:
    """What both did, for any number of tokens. Raises NotReplayable.

    The two must differ in their numbers of tokens and of wanted logits.
    """
    if len(first.calls) != len(second.calls):
        raise NotReplayable("the number of tokens decides what is called")
    transcript = _Transcript(first, second)
    for call, other in zip(first.calls, second.calls, strict=True):
        transcript.add(call, other)
    return transcript.finish(first.logits, second.logits)


class _Transcript:
    def __init__(self, first: Recording, second: Recording) -> None:
        self._lengths = first.num_tokens, second.num_tokens
        #: The variable of each value that there is at this point of each recording, by its id.
        self._names = _input_names(first), _input_names(second)
        self._inputs = set(self._names[0].values())
        self._constants: dict[str, Any] = {}
        self._constant_names: dict[int, str] = {}
        #: Each line with the variables that it sets, and those that it reads.
        self._lines: list[tuple[str, list[str]]] = []
        self._reads: list[set[str]] = []
        self._num_variables = 0

    def add(self, call: Call, other: Call) -> None:
        if call.function != other.function or call.kwargs.keys() != other.kwargs.keys():
            raise NotReplayable("the number of tokens decides what is called")
        self._reads.append(set())
        arguments = self._items(call.args, other.args)
        arguments += [
            f"{name}={self._written(value, other.kwargs[name])}" for name, value in call.kwargs.items()
        ]
        targets = self._bind(call, other)
        left = f"{', '.join(targets)}, =" if isinstance(call.result, tuple | list) else f"{targets[0]} ="
        self._lines.append((f"{left} {self._constant(call.function)}({', '.join(arguments)})", targets))

    def finish(self, logits: torch.Tensor, other: torch.Tensor) -> Play:
        self._reads.append(set())
        last = f"return {self._written(logits, other)}"
        first = f"def play({', '.join(sorted(self._inputs))}, **_):"
        source = "\n ".join([first, f"{_NUM_TOKENS} = input_ids.shape[1]", *self._body(), last])
        exec(compile(source, "<transcript>", "exec"), self._constants)
        play: Play = self._constants["play"]
        return play

    def _body(self) -> list[str]:
        """The lines, and an end to each variable that is not read any more: what the forward forgets is to be
        forgotten as soon."""
        body: list[str] = []
        alive = self._reads[-1] | self._inputs
        for (line, targets), read in zip(reversed(self._lines), reversed(self._reads[:-1]), strict=True):
            if ended := sorted(read.union(targets) - alive):
                body.append(" = ".join([*ended, "None"]))
            body.append(line)
            alive |= read
        return body[::-1]

    def _bind(self, call: Call, other: Call) -> list[str]:
        """A new variable for each result."""
        if len(call.results) != len(other.results):
            raise NotReplayable("the number of tokens decides how many results there are")
        targets = []
        for result, other_result in zip(call.results, other.results, strict=True):
            if is_plain(result) and result is not None:
                raise NotReplayable("a call answers with tensors and numbers")
            targets.append(f"v{self._num_variables}")
            self._num_variables += 1
            if result is not None:
                self._names[0][id(result)] = self._names[1][id(other_result)] = targets[-1]
        return targets

    def _written(self, value: Any, other: Any) -> str:
        """An argument as it stands in a line."""
        name = self._names[0].get(id(value))
        if name is not None and name == self._names[1].get(id(other)):
            self._reads[-1].add(name)
            return name
        if type(value) is not type(other):
            raise NotReplayable("the number of tokens decides the kind of an argument")
        match value:
            case tuple():
                return f"({''.join(f'{item}, ' for item in self._items(value, other))})"
            case list():
                return f"[{', '.join(self._items(value, other))}]"
            case slice():
                ends = ((one.start, one.stop, one.step) for one in (value, other))
                return f"slice({', '.join(self._items(*ends))})"
            case torch.Tensor() if value is not other:
                raise NotReplayable("a tensor comes from somewhere else")
            case int() if value != other:
                return self._length(value, other)
        if value is not other and value != other:
            raise NotReplayable(f"a {type(value).__name__} depends on the number of tokens")
        return self._constant(value)

    def _items(self, values: Any, others: Any) -> list[str]:
        if len(values) != len(others):
            raise NotReplayable("the number of tokens decides how long an argument is")
        return [self._written(*pair) for pair in zip(values, others, strict=True)]

    def _length(self, value: int, other: int) -> str:
        """A multiple of the number of tokens."""
        factor = value // self._lengths[0]
        if (factor * self._lengths[0], factor * self._lengths[1]) != (value, other):
            raise NotReplayable("an integer depends on the number of tokens in another way")
        return f"{_NUM_TOKENS} * {factor}" if factor != 1 else _NUM_TOKENS

    def _constant(self, value: Any) -> str:
        if value is None or isinstance(value, bool | int | str):
            return repr(value)
        # The recordings keep what they hold, so an id stays one thing's.
        name = self._constant_names.setdefault(id(value), f"c{len(self._constants)}")
        self._constants[name] = value
        return name


def _input_names(recording: Recording) -> dict[int, str]:
    return {id(value): name for name, value in recording.inputs.items() if not is_plain(value)}
