"""States of a window. A real server brings the window to each of them. Each looks the same in each run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import turnstream as ts
from tests.terminal.windows import Window, ask_scripted, served, server, window
from turnstream.config import RetrySettings
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    TextDelta,
    ThinkingDelta,
)
from turnstream.core.turn_events import Source, StepStart
from turnstream.terminal.asking import Asking

Scene: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Window]]
SCENES: dict[str, Scene] = {}
"""The states by their names."""

ECHO = Asking("sim/echo:pace=0")
MODEL = "acme/large"
TOOLS = Asking("sim/tools:pace=0")
WAITING = 3600.0
"""Seconds that a tool waits. They are longer than any test."""

MARKDOWN = """\
# Why the sky is blue

Sunlight has **all colours**. Air scatters *short* waves more than long ones, as `1/λ⁴`.

1. Blue light is scattered to all sides.
2. Red light goes straight on.
   - At sunset it has the longest way.

> The sky is not violet, since eyes see blue better.

| colour | wave (nm) | scattered |
|---|---:|---|
| blue | 450 | much |
| red | 700 | little |

```python
def scattered(wave: float) -> float:
    return (450 / wave) ** 4  # relative to blue
```

More is in [a page about light](https://example.org/light), and the next sen"""


def scene(build: Callable[[Path], AsyncGenerator[Window, None]]) -> Scene:
    """Add a state, under the name of its function."""
    made = asynccontextmanager(build)
    SCENES[build.__name__] = made
    return made


@scene
async def ready(folder: Path) -> AsyncGenerator[Window, None]:
    async with server(folder) as url, window(url, asking=Asking("sim/story")) as shown:
        await shown.until_shown("● Ready")
        yield shown


@scene
async def thinking(folder: Path) -> AsyncGenerator[Window, None]:
    async with served(folder) as (engine, url):
        answer, chat_id = await ask_scripted(engine, "Why is the sky blue?", model=MODEL)
        answer.say(ContentBlockStart(0, "thinking"))
        answer.say(ThinkingDelta(0, "The user asks about **light**. Which waves does air scatter most?"))
        async with window(url, chat_id=chat_id) as shown:
            await shown.until_shown("▸ Thinking… · 65 characters")
            yield shown
        answer.end()


@scene
async def thought(folder: Path) -> AsyncGenerator[Window, None]:
    async with served(folder) as (engine, url):
        answer, chat_id = await ask_scripted(engine, "Why is the sky blue?", model=MODEL)
        answer.say(ContentBlockStart(0, "thinking"))
        answer.say(ThinkingDelta(0, "The user asks about **light**. Which waves does air scatter most?"))
        answer.say(ContentBlockStop(0), ContentBlockStart(1, "text"), TextDelta(1, "Air scatters blue most."))
        async with window(url, chat_id=chat_id) as shown:
            await shown.until_shown("▸ Thought")
            await shown.pilot.press("ctrl+t")
            await shown.until_shown("The user asks about light.")
            yield shown
        answer.end()


@scene
async def streaming(folder: Path) -> AsyncGenerator[Window, None]:
    async with served(folder) as (engine, url):
        answer, chat_id = await ask_scripted(
            engine, "Why is the sky blue?\nAnswer with a table.", model=MODEL
        )
        answer.say(MARKDOWN)
        async with window(url, chat_id=chat_id) as shown:
            await shown.until_shown("the next sen")
            yield shown
        answer.end()


@scene
async def tool_running(folder: Path) -> AsyncGenerator[Window, None]:
    @ts.tool
    async def find_orders(customer: str, context: ts.ToolContext) -> str:
        """Find a customer's orders."""
        context.progress(f"looking for {customer}")
        await asyncio.sleep(WAITING)
        return customer

    async with server(folder, tools=[find_orders]) as url, window(url, asking=TOOLS) as shown:
        await shown.ask("Where are my orders?")
        await shown.until_shown("looking for example 1")
        await shown.until_shown("looking for example 2")
        yield shown
        await shown.pilot.press("escape")
        await shown.until_ready()


@scene
async def tool_results(folder: Path) -> AsyncGenerator[Window, None]:
    @ts.tool
    def find_orders(customer: str) -> str:
        """Find a customer's orders."""
        if customer.endswith("2"):
            raise ValueError(customer)
        return "order 17: shipped\norder 18: in the works"

    async with server(folder, tools=[find_orders]) as url, window(url, asking=TOOLS) as shown:
        await shown.ask("Where are my orders?")
        await shown.until_ready()
        yield shown


@scene
async def approval(folder: Path) -> AsyncGenerator[Window, None]:
    @ts.tool(ask="always")
    def delete_file(path: str) -> str:
        """Delete a file."""
        return path

    async with server(folder, tools=[delete_file]) as url, window(url, asking=TOOLS) as shown:
        await shown.ask("Tidy up")
        await shown.until(lambda: shown.screen().count("May this run?") == 2, "two requests")
        yield shown
        await shown.pilot.press("escape")
        await shown.until_ready()


@scene
async def stages(folder: Path) -> AsyncGenerator[Window, None]:
    async with served(folder) as (engine, url):
        answer, chat_id = await ask_scripted(engine, "Research blue skies", model=MODEL)
        answer.say(StepStart(0, name="search", progress=0.25))
        answer.say(Source("s1", "https://example.org/sky", "Why the sky is blue"))
        answer.say(StepStart(1, name="writing", progress=0.5), "The sky is blue, since")
        async with window(url, chat_id=chat_id) as shown:
            await shown.until(lambda: "writing (50 %)" in shown.status(), "stage")
            await shown.until_shown("The sky is blue, since")
            yield shown
        answer.end()


@scene
async def retrying(folder: Path) -> AsyncGenerator[Window, None]:
    retry = RetrySettings(attempts=3, delay=1, budget=600)  # no jitter: the provider sets the time
    asking = Asking("sim/echo:fault=error-before,retry-after=60,times=1,pace=0")
    async with server(folder, retry=retry) as url, window(url, asking=asking) as shown:
        await shown.ask("Again")
        await shown.until_shown("retried in 60")
        yield shown
        await shown.pilot.press("escape")
        await shown.until_ready()


@scene
async def failed(folder: Path) -> AsyncGenerator[Window, None]:
    asking = Asking("sim/echo:fault=error,after=5,pace=0,chunk=6,code=overloaded_error")
    retry = RetrySettings(attempts=1)
    async with server(folder, retry=retry) as url, window(url, asking=asking) as shown:
        await shown.ask("This answer breaks off after some of its words, and says why.")
        await shown.until_shown("✗ ")
        await shown.until(lambda: "Streaming failed" in shown.status(), "state")
        yield shown


@scene
async def cancelled(folder: Path) -> AsyncGenerator[Window, None]:
    async with served(folder) as (engine, url):
        answer, chat_id = await ask_scripted(engine, "Tell a long story", model=MODEL)
        answer.say("Once upon a time there")
        async with window(url, chat_id=chat_id) as shown:
            await shown.until_shown("Once upon a time there")
            await shown.pilot.press("escape")
            await shown.until_shown("■ stopped")
            await shown.until_ready()
            yield shown
        answer.end()


@scene
async def branches(folder: Path) -> AsyncGenerator[Window, None]:
    async with server(folder) as url, window(url, asking=ECHO) as shown:
        await shown.ask("first")
        await shown.until_ready()
        await shown.pilot.press("up", "2", "enter")
        await shown.until_shown("‹ 2/2 ›")
        await shown.until_ready()
        await shown.pilot.press("ctrl+r")
        await shown.until(lambda: shown.screen().count("‹ 2/2 ›") == 2, "two places with branches")
        await shown.until_ready()
        await shown.pilot.press("up")
        await shown.until(lambda: "editing" in shown.status(), "edit")
        yield shown


@scene
async def chats(folder: Path) -> AsyncGenerator[Window, None]:
    async with server(folder) as url, window(url, asking=ECHO) as shown:
        for question in ("About apples", "About a long question: " + "why and why and " * 20, "梨について"):
            await shown.pilot.press("ctrl+n")
            await shown.until(lambda: not shown.app.conversation.turns, "empty chat")
            await shown.ask(question)
            await shown.until_ready()
        await shown.pilot.press("ctrl+s")
        await shown.until_shown("3 chats")
        yield shown


@scene
async def completion(folder: Path) -> AsyncGenerator[Window, None]:
    async with server(folder) as url, window(url) as shown:
        await shown.until_shown("● Ready")
        await shown.pilot.press("/")
        await shown.until_shown("/model")
        yield shown


@scene
async def palette(folder: Path) -> AsyncGenerator[Window, None]:
    async with server(folder) as url, window(url) as shown:
        await shown.pilot.press("ctrl+p")
        await shown.pilot.press(*"answer")
        await shown.until_shown("Copy the last answer")
        yield shown


@scene
async def help_screen(folder: Path) -> AsyncGenerator[Window, None]:
    async with server(folder) as url, window(url) as shown:
        await shown.pilot.press("f1")
        await shown.until_shown("Begin a new line")
        yield shown
