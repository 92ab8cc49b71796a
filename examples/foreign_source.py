"""Any stream of yours, made durable and resumable. Run: `uvicorn examples.foreign_source:app`, then

curl -N -X POST 'http://127.0.0.1:8000/countdown?start=20'
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from turnstream import Engine
from turnstream.core.stream_events import TextDelta
from turnstream.core.turn_events import Data, SourceEvent

engine = Engine("sqlite:///var/foreign.sqlite")


async def countdown(start: int) -> AsyncIterator[SourceEvent]:
    """A run of an agent: progress as data, words as text."""
    for number in range(start, 0, -1):
        yield Data("progress", {"left": number}, transient=True)
        yield TextDelta(0, f"{number}… ")
        await asyncio.sleep(0.05)
    yield TextDelta(0, "lift-off 🚀")


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(engine.router("/llm"))  # GET /llm/turns/{id}/stream resumes what /countdown began


@app.post("/countdown")
async def start_countdown(request: Request, start: int = 10) -> Response:
    turn = await engine.start(countdown(start))
    return await turn.response(request)
