"""The list of models, in the forms of OpenAI and Anthropic, and the answer to unknown addresses under /v1."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.errors import NotFound
from turnstream.providers.catalog import ListedModel
from turnstream.server.context import ServerContext

_NOT_OURS = ("embeddings", "audio", "images", "moderations", "files", "batches", "fine_tuning", "completions")
"""First parts of addresses that clients of OpenAI know."""
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def add_model_routes(router: APIRouter, context: ServerContext) -> None:
    """Add the routes to `router`. The header `anthropic-version` chooses Anthropic's form."""

    @router.get("/v1/models", include_in_schema=False)
    async def list_models(request: Request) -> Response:
        await context.principal(request)
        models = [model for model in context.commands.models() if model.ready]
        if not _is_anthropic(request):
            return JSONResponse({"object": "list", "data": [_openai(model) for model in models]})
        ids = [model.id for model in models]
        ends = {"first_id": ids[0], "last_id": ids[-1]} if ids else {"first_id": None, "last_id": None}
        return JSONResponse({"data": [_anthropic(model) for model in models], "has_more": False, **ends})

    @router.get("/v1/models/{name:path}", include_in_schema=False)
    async def read_model(request: Request, name: str) -> Response:
        await context.principal(request)
        model = next((model for model in context.commands.models() if model.id == name), None)
        if model is None:
            raise NotFound(f"there is no model {name[:200]!r} here; GET /v1/models lists the models")
        return JSONResponse(_anthropic(model) if _is_anthropic(request) else _openai(model))


def add_unknown_routes(router: APIRouter, context: ServerContext) -> None:
    """Answer every other address under /v1. Call it after all other routes are added."""

    @router.api_route("/v1/{rest:path}", methods=_METHODS, include_in_schema=False)
    async def unknown(request: Request, rest: str) -> Response:
        await context.principal(request)
        part = rest.partition("/")[0]
        if part in _NOT_OURS:
            raise NotFound(
                f"turnstream runs conversations: /v1/{part} is not available here, ask its provider"
            )
        raise NotFound(f"there is no address {request.method} /v1/{rest[:200]} here")


def _is_anthropic(request: Request) -> bool:
    return "anthropic-version" in request.headers


def _openai(model: ListedModel) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": 0, "owned_by": model.provider}


def _anthropic(model: ListedModel) -> dict[str, Any]:
    return {"type": "model", "id": model.id, "display_name": model.id, "created_at": "1970-01-01T00:00:00Z"}
