"""The description of a function for a model, and the conversion of its arguments."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from turnstream.errors import ConfigurationError
from turnstream.tools import Tool, ToolContext, tool
from turnstream.tools.base import by_name
from turnstream.tools.schema import read_docstring


def forecast(city: str, days: int = 1, unit: Literal["C", "F"] = "C") -> str:
    """Tell the weather.

    It may rain.

    Args:
        city: Where.
        days (int): For how many days,
            today included.
        unit: Of the temperature.

    Returns:
        A sentence.
    """
    return f"{city} {days} {unit}"


@pytest.mark.requirement("F1")
def test_a_function_is_described_by_its_signature_and_docstring() -> None:
    definition = Tool.of(forecast).definition
    assert definition.name == "forecast"
    assert definition.description == "Tell the weather.\n\nIt may rain."
    assert definition.input_schema == {
        "type": "object",
        "additionalProperties": False,
        "required": ["city"],
        "properties": {
            "city": {"type": "string", "description": "Where."},
            "days": {
                "type": "integer",
                "default": 1,
                "description": "For how many days, today included.",
            },
            "unit": {
                "type": "string",
                "enum": ["C", "F"],
                "default": "C",
                "description": "Of the temperature.",
            },
        },
    }


def test_field_lists_describe_parameters_too() -> None:
    text = "Find.\n\n:param query: what to\n    look for\n:param int limit: how many\n:returns: rows"
    assert read_docstring(text) == ("Find.", {"query": "what to look for", "limit": "how many"})


def test_arguments_come_back_in_the_types_of_the_signature() -> None:
    def book(when: Annotated[int, Field(ge=0)], json: list[str], copy: bool = False) -> None:
        """Book."""

    arguments = Tool.of(book).arguments
    assert arguments.read({"when": "3", "json": ["a"]}) == {"when": 3, "json": ["a"]}
    with pytest.raises(ValueError, match="when: Input should be greater"):
        arguments.read({"when": -1, "json": []})
    with pytest.raises(ValueError, match="extra: Extra inputs are not permitted"):
        arguments.read({"when": 1, "json": [], "extra": 2})


def test_the_context_is_no_parameter_of_the_model() -> None:
    def watch(path: str, context: ToolContext) -> None:
        """Watch."""

    made = Tool.of(watch)
    assert made.context == "context"
    assert list(made.definition.input_schema["properties"]) == ["path"]


def test_the_decorator_renames_and_limits() -> None:
    @tool(name="find-it", description="Find it.", timeout=2.0, idempotent=True)
    async def find() -> str:
        return "it"

    made = Tool.of(find)
    assert (made.name, made.definition.description) == ("find-it", "Find it.")
    assert (made.timeout, made.idempotent) == (2.0, True)


def starred(*paths: str) -> None:
    """Take many."""


def mystery(thing: object, other: type(len)) -> None:  # type: ignore[valid-type]
    """Take what no JSON is."""


@tool(name="no spaces allowed")
def misnamed() -> None:
    """Have a name that no provider takes."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (starred, r"\*paths"),
        (mystery, "cannot be described"),
        (misnamed, "cannot be a tool's name"),
    ],
)
def test_what_no_model_could_call_is_refused(function: object, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Tool.of(function)  # type: ignore[arg-type]


def test_two_tools_of_one_name_are_refused() -> None:
    def clock() -> str:
        """Tell the time."""
        return "noon"

    with pytest.raises(ConfigurationError, match="two tools are called clock"):
        by_name([clock, clock])
