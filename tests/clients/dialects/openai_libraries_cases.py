"""`pydantic-ai` and `langchain-openai` against a server. Each case prints one line of JSON.

Arguments: the address of the server, and the addresses of proxies that cut their first connection.
Each case asks a question of its own, by which the test finds the stored turns.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

URL, *CUTTERS = sys.argv[1:]
STORY = "sim/story:events=30,pace=0"
CUT_STORY = "sim/story:events=40,pace=0.002"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Place(BaseModel):
    """The value of the structured answers."""

    city: str


def failure(error: Exception, part: str = "") -> dict[str, Any]:
    return {"error": type(error).__name__, "status": getattr(error, "status_code", None), "part": part}


def attempt(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - each library has errors of its own, and their names are compared
        return failure(error)


# -- pydantic-ai


def agent_of(model: str, url: str = URL, **given: Any) -> Agent[None, Any]:
    provider = OpenAIProvider(base_url=url + "/v1", api_key="any")
    provider.client.max_retries = 0
    return Agent(OpenAIChatModel(model, provider=provider), **given)


def pydantic_plain(name: str, model: str = STORY, **settings: Any) -> dict[str, Any]:
    return {"text": agent_of(model).run_sync(f"question of {name}", model_settings=settings or None).output}


def pydantic_streamed(name: str, model: str = STORY, url: str = URL) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        text = ""
        try:
            async with agent_of(model, url).run_stream(f"question of {name}") as result:
                async for piece in result.stream_text(delta=True):
                    text += piece
        except Exception as error:  # noqa: BLE001 - see `attempt`
            return failure(error, text)
        return {"text": text}

    return asyncio.run(read())


def pydantic_tools(name: str) -> dict[str, Any]:
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"clear sky in {city}"

    answer = agent_of("sim/tools:pace=0", tools=[weather]).run_sync(f"question of {name}")
    return {"text": answer.output, "messages": len(answer.all_messages())}


def pydantic_image(name: str) -> dict[str, Any]:
    import base64

    image = BinaryContent(base64.b64decode(PNG), media_type="image/png")
    return {"text": agent_of("sim/echo:pace=0").run_sync([f"question of {name}", image]).output}


# -- langchain


def chat_of(model: str, url: str = URL, **given: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=url + "/v1",
        api_key="any",
        model=model,
        max_retries=0,
        timeout=30,
        use_responses_api=False,
        **given,
    )


def langchain_plain(name: str, model: str = STORY, **given: Any) -> dict[str, Any]:
    return {"text": chat_of(model, **given).invoke(f"question of {name}").content}


def langchain_streamed(name: str, model: str = STORY, url: str = URL) -> dict[str, Any]:
    text = ""
    try:
        for piece in chat_of(model, url).stream(f"question of {name}"):
            text += str(piece.content)
    except Exception as error:  # noqa: BLE001 - see `attempt`
        return failure(error, text)
    return {"text": text}


def langchain_tools(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    weather = {"name": "weather", "description": "Tell the weather.", "parameters": schema}
    chat = chat_of("sim/tools:pace=0").bind_tools([weather])
    messages: list[Any] = [HumanMessage(f"question of {name}")]
    first: Any = None
    for piece in chat.stream(messages):
        first = piece if first is None else first + piece
    messages.append(first)
    messages += [ToolMessage("clear sky", tool_call_id=call["id"]) for call in first.tool_calls]
    return {"text": chat.invoke(messages).content, "calls": [call["name"] for call in first.tool_calls]}


def langchain_structured(name: str) -> dict[str, Any]:
    chat = chat_of("sim/echo:pace=0").with_structured_output(Place, method="json_schema")
    value = chat.invoke(json.dumps({"city": name}))
    return {"city": value.city}


def langchain_image(name: str) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    message = HumanMessage([{"type": "text", "text": f"question of {name}"}, image])
    return {"text": chat_of("sim/echo:pace=0").invoke([message]).content}


BEFORE = "sim/story:events=9,pace=0,fault=error-before,status=401"
AFTER = "sim/story:events=9,pace=0,fault=cut,after=6"
FALLBACKS = {"extra_body": {"fallbacks": [STORY]}}
CASES: dict[str, Callable[[str], Any]] = {
    "pydantic plain": pydantic_plain,
    "pydantic streamed": pydantic_streamed,
    "pydantic tools": pydantic_tools,
    "pydantic image": pydantic_image,
    "pydantic fallback": lambda name: pydantic_plain(name, BEFORE, **FALLBACKS),
    "pydantic faultBefore": lambda name: attempt(lambda: pydantic_plain(name, BEFORE)),
    "pydantic faultAfter": lambda name: pydantic_streamed(name, AFTER),
    "langchain plain": langchain_plain,
    "langchain streamed": langchain_streamed,
    "langchain tools": langchain_tools,
    "langchain structured": langchain_structured,
    "langchain image": langchain_image,
    "langchain fallback": lambda name: langchain_plain(name, BEFORE, **FALLBACKS),
    "langchain faultBefore": lambda name: attempt(lambda: langchain_plain(name, BEFORE)),
    "langchain faultAfter": lambda name: langchain_streamed(name, AFTER),
}
for place, cutter in enumerate(CUTTERS):
    if place % 2:
        CASES[f"pydantic cut {place}"] = lambda name, url=cutter: pydantic_streamed(name, CUT_STORY, url)
    else:
        CASES[f"langchain cut {place}"] = lambda name, url=cutter: langchain_streamed(name, CUT_STORY, url)

for case, run in CASES.items():
    json.dump({"name": case, "outcome": run(case)}, sys.stdout)
    sys.stdout.write("\n")
