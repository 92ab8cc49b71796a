"""A host application with its own users, prefix and middleware. Run: `uvicorn
examples.embedded_fastapi:app`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response

from turnstream import Engine, Principal

USERS = {"secret-of-ada": "ada", "secret-of-bob": "bob"}


def signed_in(request: Request, x_token: Annotated[str, Header()]) -> None:
    if x_token not in USERS:
        raise HTTPException(401, "who are you?")
    request.state.user = USERS[x_token]


engine = Engine("sqlite:///var/embedded.sqlite", authenticate=lambda request: Principal(request.state.user))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(engine.router("/company/llm", dependencies=[Depends(signed_in)]))


@app.middleware("http")
async def stamp(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers["X-Company"] = "Example"
    return response
