"""Recording: the torch calls that a model's forward makes, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from shared.errors import BatonError

#: Calls that only look at a tensor's form; their answers stand in the arguments of later calls.
_QUERIES = frozenset(
    {"__get__", "__len__", "dim", "element_size", "get_device", "is_complex", "is_contiguous"}
    | {"is_floating_point", "nelement", "ndimension", "numel", "size", "storage_offset", "stride"}
)
#: Switches that do nothing in inference mode.
_SWITCHES = frozenset({"_set_grad_enabled"})
#: Calls whose answers have as many elements as the values say.
_SIZED_BY_VALUES = frozenset({"argwhere", "masked_select", "nonzero", "unique", "unique_consecutive"})


class NotReplayable(BatonError):
    """Raised when a forward does something that may be another thing the next time."""


@dataclass(frozen=True, slots=True)
class Call:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    #: A tensor or what else a leaf answers; of a call with several answers, a sequence; or None.
    result: Any

    @property
    def results(self) -> Sequence[Any]:
        return self.result if isinstance(self.result, tuple | list) else [self.result]


@dataclass(frozen=True, slots=True)
class Recording:
    """One forward."""

    #: By the names that `forward` has for them.
    inputs: Mapping[str, Any]
    calls: Sequence[Call]
    logits: torch.Tensor

    @property
    def num_tokens(self) -> int:
        return int(self.inputs["input_ids"].shape[1])


class Recorder(TorchFunctionMode):
    """Notes the calls made while it is entered; what a call does inside is no call of its own
    (https://docs.pytorch.org/docs/stable/torch.overrides.html).

    A function of ours is one call if it hands itself to `handle_torch_function`: it may then do another thing
    the next time. Raises NotReplayable where Python asks for a tensor's values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        call = Call(function, args, kwargs or {}, result)
        if name in _SIZED_BY_VALUES:
            raise NotReplayable(f"what {name} answers depends on what is in a tensor")
        if name == "__setitem__" or any(not is_plain(one) for one in call.results):
            self.calls.append(call)
        elif name not in _QUERIES | _SWITCHES:
            raise NotReplayable(f"{name} tells Python what is in a tensor")
        return result


def is_plain(value: object) -> bool:
    """Whether it is a value of Python's own, or one that tells a tensor's form."""
    return value is None or isinstance(
        value, bool | int | float | str | torch.dtype | torch.device | torch.layout
    )
