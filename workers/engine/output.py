"""EngineOutput: the new output of one request after a step."""

from __future__ import annotations

from dataclasses import dataclass

from shared.domain.output import ChoiceOutput
from shared.domain.usage import Usage
from shared.errors import ErrorInfo


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """The new output of one request."""

    request_id: str
    #: In order. A choice that drew several tokens may occur several times.
    choices: tuple[ChoiceOutput, ...]
    #: The tokens of these choices. The first output of a request also counts its prompts.
    used: Usage = Usage()
    #: Set if the request failed. The engine has dropped it then.
    error: ErrorInfo | None = None
    #: Whether the request has left the engine, because all choices ended or it failed.
    is_last: bool = False
