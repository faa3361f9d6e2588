"""EngineOutput: what one step made final for one request."""

from __future__ import annotations

from dataclasses import dataclass

from shared.domain.output import ChoiceOutput
from shared.domain.usage import Usage
from shared.errors import ErrorInfo


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """What became final for one request in one step."""

    request_id: str
    #: In their order; a choice that drew several tokens may be there several times.
    choices: tuple[ChoiceOutput, ...]
    #: The tokens of these choices, and those of the prompts that they are the first of.
    used: Usage = Usage()
    #: Set when the request failed; the engine has dropped it then.
    error: ErrorInfo | None = None
    #: Whether the request has left the engine: every choice ended, or it failed.
    is_last: bool = False
