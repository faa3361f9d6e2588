"""Requests that schemathesis draws from the system's own OpenAPI document."""

from __future__ import annotations

from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode

from tests.fuzz.http_reply import HttpReply
from tests.fuzz.tally import Tally
from tests.fuzz.target import Target

#: Requests of a batch to one operation at least.
_LEAST = 2


def send_generated(target: Target, batch_seed: int, number: int, tally: Tally) -> None:
    """Send about `number` requests, valid and invalid ones, spread over all operations."""
    operations = [found.ok() for found in _schema(target).get_all_operations()]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    each = max(_LEAST, number // (len(operations) * len(modes)))
    for operation in operations:
        for mode in modes:
            _send(target, operation, mode, batch_seed, each, tally)


def _schema(target: Target) -> Any:
    """The document. A model's name in it is that of the system: few drawn ones would be."""
    document = httpx.get(f"{target.url}/openapi.json", trust_env=False).json()
    return schemathesis.openapi.from_dict(_with_model(document, target.model))


def _with_model(node: Any, model: str) -> Any:
    if isinstance(node, list):
        return [_with_model(each, model) for each in node]
    if not isinstance(node, dict):
        return node
    found = {name: _with_model(each, model) for name, each in node.items()}
    if isinstance(properties := found.get("properties"), dict) and {"model", "messages"} <= properties.keys():
        properties["model"] = {"type": "string", "enum": [model]}
    return found


def _send(
    target: Target,
    operation: Any,
    mode: GenerationMode,
    batch_seed: int,
    number: int,
    tally: Tally,
) -> None:
    group = f"OpenAPI, {mode.value}"
    name = f"{operation.method.upper()} {operation.path}"

    @seed(batch_seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def attack(case: Any) -> None:
        response = case.call(base_url=target.url, timeout=60)
        reply = HttpReply(
            response.status_code,
            {key.lower(): text for key, text in response.headers.items()},
            response.content,
        )
        tally.add(group, str(reply.status))
        if wrong := reply.wrong(has_body=case.method != "HEAD"):
            tally.fault(group, f"{name}: {wrong}", case.as_curl_command())

    try:
        attack()
    except Unsatisfiable:
        return  # an operation without parameters cannot be called wrongly
