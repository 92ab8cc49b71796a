"""Routes of the page of our own server: its files, and the session of a browser."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from turnstream.errors import NotFound, Unauthorized
from turnstream.server.auth import NotingHook
from turnstream.server.context import ServerContext
from turnstream.server.error_answers import error_response
from turnstream.server.page.built_page import BUILT, BuiltPage
from turnstream.server.page.sessions import KeyOrSession, require_own_page
from turnstream.server.reference import server_index
from turnstream.server.requests.limited_route import limited_route


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str = Field(max_length=4096)
    """The server's key."""


def add_page(  # noqa: PLR0913 - the application, and all that its page shows
    application: FastAPI,
    context: ServerContext,
    version: str,
    prefix: str,
    *,
    with_chat: bool = True,
    folder: Path = BUILT,
) -> None:
    """Add the page at `/` and its sessions to an application.

    Args:
        version: Turnstream's version, for the plain page.
        prefix: Prefix of the native routes. The session's address is below it.
        with_chat: False to show only the plain page.
        folder: Folder with the built page. The plain page is shown if it is missing.
    """
    page = BuiltPage.load(folder) if with_chat else None

    @application.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index(request: Request) -> Response:
        if page is not None and (answer := page.answer(request)) is not None:
            return answer
        html = await server_index(context, version, prefix, request)
        return HTMLResponse(html, headers={"Cache-Control": "no-store"})

    if page is not None:

        @application.api_route("/assets/{name}", methods=["GET", "HEAD"], include_in_schema=False)
        async def asset(request: Request, name: str) -> Response:
            answer = page.answer(request, f"assets/{name}")
            return answer or error_response(NotFound("the page has no such file: load the page again"))

    router = APIRouter(
        prefix=prefix,
        route_class=limited_route(context, authenticates_first=False),
        include_in_schema=False,
    )
    _add_session(router, context)
    application.include_router(router)


def _add_session(router: APIRouter, context: ServerContext) -> None:
    noting = context.authenticate if isinstance(context.authenticate, NotingHook) else None
    access = context.authenticate if noting is None else noting.hook
    sessions = access.sessions if isinstance(access, KeyOrSession) else None

    async def state(request: Request) -> dict[str, bool]:
        if sessions is not None:
            return {"signed_in": sessions.is_signed_in(request), "needs_key": True}
        try:
            await context.principal(request)
        except Unauthorized:
            return {"signed_in": False, "needs_key": False}
        return {"signed_in": True, "needs_key": False}

    @router.get("/session")
    async def read_session(request: Request) -> JSONResponse:
        return JSONResponse(await state(request), headers={"Cache-Control": "no-store"})

    @router.post("/session")
    async def sign_in(request: Request, body: SignIn) -> JSONResponse:
        require_own_page(request)
        if not isinstance(access, KeyOrSession):
            return JSONResponse(await state(request))
        if not access.is_key(body.key.strip()):
            if noting is not None:
                noting.note_refusal(request)
            raise Unauthorized("this is not the server's key: ask the operator of the server for it")
        response = JSONResponse({"signed_in": True, "needs_key": True})
        access.sessions.begin(response, request)
        return response

    @router.delete("/session")
    async def sign_out(request: Request) -> Response:
        require_own_page(request)
        response = Response(status_code=204)
        if sessions is not None:
            sessions.end(response, request)
        return response
