"""/v1/models: the models that requests can name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.dependencies import PrincipalDep, ServicesDep

router = APIRouter()


@router.get("/v1/models")
async def list_models(_: PrincipalDep, services: ServicesDep) -> dict[str, Any]:
    """The configured model and every model that a worker has registered."""
    return {"object": "list", "data": [_model(name) for name in await services.models.all()]}


@router.get("/v1/models/{model:path}")
async def get_model(model: str, _: PrincipalDep, services: ServicesDep) -> dict[str, Any]:
    """One of them."""
    await services.models.require(model)
    return _model(model)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "baton"}
