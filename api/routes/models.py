"""/v1/models: the models that are served now.

One object serves the clients of OpenAI, vLLM and Anthropic: each reads its own fields.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from api.dependencies import PrincipalDep, ServicesDep
from api.jobs.models import ServedModel
from shared.errors import invalid_request

router = APIRouter()


@router.get("/v1/models")
async def list_models(_: PrincipalDep, services: ServicesDep) -> dict[str, Any]:
    """Every model that a living worker serves, the configured one first."""
    data = [_model(model) for model in await services.models.served()]
    ends = (
        {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
        if data
        else {"first_id": None, "last_id": None}
    )
    return {"object": "list", "data": data, "has_more": False, **ends}


@router.get("/v1/models/{model:path}")
async def get_model(model: str, _: PrincipalDep, services: ServicesDep) -> dict[str, Any]:
    """One of them."""
    for served in await services.models.served():
        if served.name == model:
            return _model(served)
    await services.models.require(model)
    message = f"No worker serves the model '{model}' now. Jobs for it wait until one does."
    raise invalid_request(message, param="model", code="model_not_found", status=404)


def _model(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "baton",
        "root": model.name,
        "parent": None,
        "max_model_len": model.max_model_len,
        "type": "model",
        "display_name": model.name,
        "created_at": datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z"),
        "max_input_tokens": model.max_model_len,
        "max_tokens": model.max_model_len,
    }
