"""Runs streams of another library as turns of an engine, against our simulator, and prints the results as
JSON.

Run it in an environment that has the libraries, with the name of a source, a folder, and models of the
simulator. Each turn is watched twice: once without a cut, and once cut after every few frames and resumed.
For each model, it prints `{stored, watched, resumed, status, code, usage, data}`.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from turnstream import Cursor, Engine, adapters
from turnstream.core.cursor import parse_cursor
from turnstream.core.native_fold import NativeFold
from turnstream.server.live_turn import LiveTurn
from turnstream.simulator.server import SimulatorServer

QUESTION = "What is the weather?"
Start = Callable[[str, str], Any]


def openai_chat(url: str, model: str) -> Any:
    import openai

    client = openai.AsyncOpenAI(base_url=url + "/v1", api_key="any", max_retries=0, timeout=5)
    return adapters.from_openai_chat(
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )


def openai_chat_helper(url: str, model: str) -> Any:
    import openai

    client = openai.AsyncOpenAI(base_url=url + "/v1", api_key="any", max_retries=0, timeout=5)
    return adapters.from_openai_chat(
        client.chat.completions.stream(
            model=model,
            messages=[{"role": "user", "content": QUESTION}],
            stream_options={"include_usage": True},
        )
    )


def openai_responses(url: str, model: str) -> Any:
    import openai

    client = openai.AsyncOpenAI(base_url=url + "/v1", api_key="any", max_retries=0, timeout=5)
    return adapters.from_openai_responses(client.responses.create(model=model, input=QUESTION, stream=True))


def anthropic(url: str, model: str) -> Any:
    import anthropic

    client = anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0, timeout=5)
    return adapters.from_anthropic(
        client.messages.create(
            model=model, max_tokens=64, messages=[{"role": "user", "content": QUESTION}], stream=True
        )
    )


def anthropic_helper(url: str, model: str) -> Any:
    import anthropic

    client = anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0, timeout=5)
    return adapters.from_anthropic(
        client.messages.stream(model=model, max_tokens=64, messages=[{"role": "user", "content": QUESTION}])
    )


def gemini(url: str, model: str) -> Any:
    from google import genai

    options = genai.types.HttpOptions(base_url=url, timeout=5000)
    client = genai.Client(api_key="any", http_options=options)
    return adapters.from_gemini(client.aio.models.generate_content_stream(model=model, contents=QUESTION))


def bedrock(url: str, model: str) -> Any:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(read_timeout=5, connect_timeout=5, retries={"total_max_attempts": 1}),
    )
    messages = [{"role": "user", "content": [{"text": QUESTION}]}]
    return adapters.from_bedrock(
        lambda: client.converse_stream(modelId=model, messages=messages, inferenceConfig={"maxTokens": 64})
    )


def ollama(url: str, model: str) -> Any:
    import ollama

    client = ollama.AsyncClient(host=url, timeout=5)
    messages = [{"role": "user", "content": QUESTION}]
    return adapters.from_ollama(client.chat(model=model, messages=messages, stream=True))


def pydantic_ai(url: str, model: str) -> Any:
    from dataclasses import dataclass

    from pydantic_ai import Agent, CustomEvent, RunContext
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    @dataclass(kw_only=True)
    class Looking(CustomEvent):
        at: str

    provider = OpenAIProvider(base_url=url + "/v1", api_key="any")
    agent = Agent(OpenAIChatModel(model, provider=provider))

    @agent.tool
    async def clock(context: RunContext[None]) -> str:
        """Return the time."""
        await context.emit(Looking(at="the clock"))
        return "noon"

    return adapters.from_pydantic_ai(agent.run_stream_events(QUESTION))


def openai_agents(url: str, model: str) -> Any:
    import agents
    import openai

    client = openai.AsyncOpenAI(base_url=url + "/v1", api_key="any", max_retries=0, timeout=5)
    agents.set_tracing_disabled(True)

    @agents.function_tool
    def clock() -> str:
        """Return the time."""
        return "noon"

    agent = agents.Agent(
        name="Assistant",
        model=agents.OpenAIChatCompletionsModel(model=model, openai_client=client),
        tools=[clock],
    )
    return adapters.from_openai_agents(agents.Runner.run_streamed(agent, QUESTION))


def langgraph(url: str, model: str) -> Any:
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from langgraph.config import get_stream_writer
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    @tool
    async def clock() -> str:
        """Return the time."""
        get_stream_writer()({"at": "the clock"})
        return "noon"

    chat = ChatOpenAI(
        model=model, base_url=url + "/v1", api_key="any", max_retries=0, timeout=5, stream_usage=True
    )
    bound = chat.bind_tools([clock])

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_node("tools", ToolNode([clock]))
    builder.add_edge(START, "ask")
    builder.add_conditional_edges("ask", tools_condition)
    builder.add_edge("tools", "ask")
    graph = builder.compile()
    return adapters.from_langgraph(
        graph.astream({"messages": [("user", QUESTION)]}, stream_mode=["messages", "custom"])
    )


SOURCES: dict[str, Start] = {
    source.__name__: source
    for source in (
        openai_chat,
        openai_chat_helper,
        openai_responses,
        anthropic,
        anthropic_helper,
        gemini,
        bedrock,
        ollama,
        pydantic_ai,
        openai_agents,
        langgraph,
    )
}


class Frame(TypedDict):
    id: str
    name: str
    data: dict[str, Any]


async def frames(turn: LiveTurn, after: Cursor | None) -> AsyncIterator[Frame]:
    """Yield the turn's frames after a cursor. The end of the iteration closes the subscription."""
    subscription = await turn.subscribe(after=after)
    try:
        while (data := await subscription.next()) is not None:
            for text in data.decode().split("\n\n"):
                fields = dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)
                if "data" in fields:
                    yield Frame(id=fields["id"], name=fields["event"], data=json.loads(fields["data"]))
    finally:
        subscription.close()


async def watch(turn: LiveTurn, *, cut_every: int | None) -> tuple[NativeFold, list[Frame]]:
    fold = NativeFold()
    seen: list[Frame] = []
    after: Cursor | None = None
    while fold.ending is None:
        watching = frames(turn, after)
        count = 0
        async for frame in watching:
            fold.feed(frame["name"], frame["data"])
            seen.append(frame)
            after = parse_cursor(frame["id"])
            count += 1
            if count == cut_every:
                break
        await watching.aclose()
    return fold, seen


async def tell(engine: Engine, source: Any) -> dict[str, Any]:
    """Return the turn that the engine makes from the source."""
    turn = await engine.start(source)
    (through, seen), (cut, _) = await asyncio.gather(watch(turn, cut_every=None), watch(turn, cut_every=3))
    state = await turn.wait()
    return {
        "stored": [msgspec.to_builtins(stored.block) for stored in state.blocks],
        "watched": msgspec.to_builtins(through.blocks),
        "resumed": msgspec.to_builtins(cut.blocks),
        "status": state.turn.status,
        "code": state.turn.error_code,
        "usage": msgspec.to_builtins(state.turn.usage),
        "data": [frame["data"] for frame in seen if frame["name"] == "data"],
    }


async def main(source: str, folder: str, *models: str) -> dict[str, Any]:
    async with SimulatorServer() as simulator, Engine(f"sqlite:///{Path(folder) / 'turns.sqlite'}") as engine:
        return {model: await tell(engine, SOURCES[source](simulator.url, model)) for model in models}


json.dump(asyncio.run(main(*sys.argv[1:])), sys.stdout)
