"""/v1/models: what can be asked for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.dependencies import Owner, ServicesDep

router = APIRouter()


@router.get("/v1/models")
async def list_models(_: Owner, services: ServicesDep) -> dict[str, Any]:
    """The configured model and all that a worker has ever registered."""
    return {"object": "list", "data": [_model(name) for name in await services.models.all()]}


@router.get("/v1/models/{model:path}")
async def get_model(model: str, _: Owner, services: ServicesDep) -> dict[str, Any]:
    """One of them."""
    await services.models.require(model)
    return _model(model)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "baton"}
