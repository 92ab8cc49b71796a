"""Answers of a type, requested by schema or by tool, read at the end or while they arrive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest
from pydantic import BaseModel

import turnstream as ts
from tests.llm.conftest import ONCE, llm_at
from tests.llm.scripted import Scripted, streaming
from turnstream.core.partial_json import NOTHING
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    TextDelta,
)
from turnstream.llm.output import OUTPUT_TOOL, OutputFormat
from turnstream.simulator.server import SimulatorServer

pytestmark = pytest.mark.requirement("F1")


class City(msgspec.Struct):
    name: str
    people: int


@dataclass
class Place:
    name: str
    people: int


class Spot(TypedDict):
    name: str
    people: int


class Town(BaseModel):
    name: str
    people: int


class Country(msgspec.Struct):
    cities: list[City]
    motto: str | None = None


SCHEMAS = {"over/*": {"structured_output": True}}
JSON = '{"name": "Vienna", "people": 2000000}'
KINDS: list[tuple[Any, Any]] = [
    (City, City("Vienna", 2_000_000)),
    (Place, Place("Vienna", 2_000_000)),
    (Spot, {"name": "Vienna", "people": 2_000_000}),
    (Town, Town(name="Vienna", people=2_000_000)),
]


@pytest.mark.parametrize(("kind", "value"), KINDS, ids=["struct", "dataclass", "typeddict", "pydantic"])
@pytest.mark.parametrize("wire", ["openai-chat", "ollama"])
async def test_the_answer_is_a_value_of_the_type(
    simulator: SimulatorServer, wire: str, kind: Any, value: Any
) -> None:
    model = llm_at(simulator.url, wire, "echo:pace=0", capabilities=SCHEMAS)
    async with model.stream(JSON, output=kind) as stream:
        partials = [partial async for partial in stream.partials]
        assert await stream.final_output() == value
        message = await stream.final_message()
    assert message.output == value
    assert message.text == JSON
    assert partials[-1] == {"name": "Vienna", "people": 2_000_000}
    assert (await model.collect(JSON, output=kind)).output == value


async def test_a_schema_goes_with_the_call(simulator: SimulatorServer) -> None:
    await llm_at(simulator.url, "openai-chat", "echo:pace=0", capabilities=SCHEMAS).collect(JSON, output=City)
    sent = msgspec.json.decode(bytes(simulator.log.newest(1)[0].body))["response_format"]
    text = msgspec.json.encode(sent).decode()
    assert '"additionalProperties":false' in text
    assert '"strict":true' in text
    assert '"City"' in text
    assert "$ref" not in text


def test_schemas_have_no_reference_outside_and_are_closed() -> None:
    shape = OutputFormat(Country)
    assert shape.schema["type"] == "object"
    assert shape.schema["additionalProperties"] is False
    assert shape.schema["$defs"]["City"]["additionalProperties"] is False
    assert "Country" not in shape.schema["$defs"]
    assert not shape.strict, "motto may be left out"
    assert OutputFormat(City).strict
    many = OutputFormat[list[Town]](list[Town])
    assert many.name == "answer"
    assert many.read('{"value": [{"name": "x", "people": 1}]}') == [Town(name="x", people=1)]
    assert many.read_partial('{"value": [{"name": "x') == [{"name": "x"}]
    assert many.read_partial("{") is NOTHING
    assert OutputFormat[int](int).read('{"value": 3}') == 3
    assert OutputFormat(City).read(f"```json\n{JSON}\n```\n") == City("Vienna", 2_000_000)


async def test_values_grow_while_they_come() -> None:
    value = {"cities": [{"name": f"City {n}", "people": n} for n in range(20)], "motto": "Onward 🤔"}
    text = msgspec.json.encode(value).decode()
    pieces = [text[start : start + 25] for start in range(0, len(text), 25)]
    source = Scripted(
        [
            [MessageStart("m"), ContentBlockStart(0, "text"), TextDelta(0, pieces[0])],
            *[[TextDelta(0, piece)] for piece in pieces[1:]],
            [ContentBlockStop(0), MessageStop("end_turn")],
        ],
        stepwise=True,
    )
    assert source.go is not None
    partials: list[Any] = []
    async with asyncio.timeout(10), streaming(source, OutputFormat(Country)) as stream:
        source.go.release()
        async for partial in stream.partials:  # a piece comes when the one before has been seen
            partials.append(partial)
            for _ in range(1 + len(text) // 16 // 25):  # it is read again when it has grown by a sixteenth
                source.go.release()
        country = await stream.final_output()
    assert len(partials) > 10
    sizes = [len(msgspec.json.encode(partial)) for partial in partials]
    assert sizes == sorted(sizes)
    assert partials[0] == {"cities": [{"name": "City "}]}
    assert partials[-1] == value
    assert country.cities[19].name == "City 19"


async def test_a_model_without_schemas_answers_by_a_tool() -> None:
    async with ts.LLM("sim/tools:pace=0", settings=ONCE).stream("go", output=City) as stream:
        partials = [partial async for partial in stream.partials]
        city = await stream.final_output()
        message = await stream.final_message()
    assert isinstance(city, City)
    assert city.name.startswith("example")
    assert partials[-1] == {"name": city.name, "people": city.people}
    assert message.stop_reason == "end_turn"
    assert message.tool_calls == ()
    assert {(block.content or {}).get("tool_name") for block in message.outputs} == {OUTPUT_TOOL}
    again = await ts.LLM("sim/tools:pace=0", settings=ONCE).collect("and?", messages=[message])
    assert again.complete


async def test_how_a_type_is_asked_for_is_known_of_the_models(simulator: SimulatorServer) -> None:
    ollama = llm_at(simulator.url, "ollama", "tools:pace=0")
    with pytest.raises(ts.InvalidOutput):  # asked by a schema; the script has nothing to say without tools
        await ollama.collect("go", output=City)
    mixed = ts.LLM("sim/echo", fallbacks=["ollama/x"], settings=ONCE)
    async with mixed.stream(JSON, output=City) as stream:
        assert (await stream.final_output()).name == "Vienna", (
            "a model that does not call the tool is understood"
        )
    anthropic = llm_at(simulator.url, "anthropic", "tools:pace=0")
    assert (await anthropic.collect("go", output=City)).output.name.startswith("example")
    sent = msgspec.json.decode(bytes(simulator.log.newest(1)[0].body))
    assert sent["tool_choice"] == {"type": "tool", "name": OUTPUT_TOOL}


async def test_tools_run_before_the_answer_is_given() -> None:
    def look(what: str) -> str:
        return '{"name": "Graz", "people": 3}'

    async with ts.LLM("sim/tools:pace=0", settings=ONCE).stream(
        "go", tools=[look], output=City, output_mode="schema"
    ) as stream:
        with pytest.raises(ts.InvalidOutput) as raised:  # "The tools say: …" is no JSON
            await stream.final_output()
    assert raised.value.retryable
    assert raised.value.partial is not None
    assert raised.value.partial.text.startswith("Let me look")
    assert "The tools say" in (raised.value.detail or "")
    assert "Let me look" not in (raised.value.detail or ""), (
        "what was said before the tools is not the answer"
    )


@pytest.mark.parametrize("text", ['{"name": "Vienna"}', "Vienna", '{"name": 1, "people": 2}', "[]"])
@pytest.mark.parametrize("kind", [City, Town])
async def test_what_is_not_of_the_type_is_an_error(text: str, kind: Any) -> None:
    model = ts.LLM("sim/echo:pace=0", settings=ONCE)
    with pytest.raises(ts.InvalidOutput):
        await model.collect(text, output=kind, output_mode="schema")


async def test_an_answer_that_broke_off_has_no_value() -> None:
    model = ts.LLM("sim/echo:pace=0,fault=cut,after=4", settings=ONCE)
    with pytest.raises(ts.StreamIncomplete):
        await model.collect(JSON, output=City, output_mode="schema")


async def test_without_a_type_there_are_no_partial_values() -> None:
    async with ts.LLM("sim/echo:pace=0", settings=ONCE).stream("x") as stream:
        with pytest.raises(TypeError, match="output=SomeType"):
            _ = stream.partials
        assert await stream.final_output() is None


def test_a_type_without_a_schema_is_refused() -> None:
    class Odd:
        pass

    class Model(BaseModel):
        name: str

    for odd in (Odd, list[Model | City]):
        with pytest.raises(ts.ConfigurationError, match="cannot be described"):
            ts.LLM("sim/echo", settings=ONCE).stream("x", output=odd)
