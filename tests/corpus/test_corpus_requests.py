"""A recorded request, decoded into our messages and encoded again, is the same request.

`DIFFERENCES` names the allowed differences, each with its reason. Both sides are compared after these rules.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.corpus import gemini_differences
from turnstream.wires import WIRES

Body = dict[str, Any]


class Difference(NamedTuple):
    """A rule: `apply` removes the difference from a body. It holds for `wire`, or for all wires if that is
    None."""

    wire: str | None
    reason: str
    apply: Callable[[Body], Body]


def without_empty_fields(body: Body) -> Body:
    return {key: value for key, value in body.items() if value not in (None, "", [], {})}


def with_plain_tools(body: Body) -> Body:
    """Return tools by name, without empty descriptions."""

    def plain(tool: Body) -> Body:
        if "function" in tool:
            return {**tool, "function": without_empty_fields(tool["function"])}
        return without_empty_fields(tool)

    tools = [plain(tool) for tool in body.get("tools", [])]
    return (
        {**body, "tools": sorted(tools, key=lambda tool: json.dumps(tool, sort_keys=True))} if tools else body
    )


def without_defaults(body: Body) -> Body:
    defaults: Body = {"tool_choice": "auto", "stream_options": {"include_usage": True}}
    return {key: value for key, value in body.items() if defaults.get(key) != value}


def with_listed_stop(body: Body) -> Body:
    return {**body, "stop": [body["stop"]]} if isinstance(body.get("stop"), str) else body


def with_system_role(body: Body) -> Body:
    return each_message(body, lambda m: {**m, "role": "system"} if m["role"] == "developer" else m)


def without_reasoning(body: Body) -> Body:
    return each_message(
        body, lambda m: {k: v for k, v in m.items() if k not in ("reasoning", "reasoning_content")}
    )


def without_empty_content(body: Body) -> Body:
    def plain(message: Body) -> Body:
        return {
            key: value for key, value in message.items() if key != "content" or value not in (None, "", [])
        }

    return each_message(body, plain)


def without_empty_messages(body: Body) -> Body:
    return {**body, "messages": [message for message in body["messages"] if message.keys() - {"role"}]}


def with_empty_ids(body: Body) -> Body:
    def named(message: Body) -> Body:
        if message["role"] == "tool":
            return {"tool_call_id": "", **message}
        calls = message.get("tool_calls")
        return {**message, "tool_calls": [{"id": "", **call} for call in calls]} if calls else message

    return each_message(body, named)


def with_listed_content(body: Body) -> Body:
    def listed(message: Body) -> Body:
        content = message["content"]
        return (
            {**message, "content": [{"type": "text", "text": content}]}
            if isinstance(content, str)
            else message
        )

    return each_message(body, listed)


def without_success_marks(body: Body) -> Body:
    def plain(block: Body) -> Body:
        return {key: value for key, value in block.items() if (key, value) != ("is_error", False)}

    def marked(message: Body) -> Body:
        content = message["content"]
        return (
            {**message, "content": [plain(block) for block in content]}
            if isinstance(content, list)
            else message
        )

    return each_message(body, marked)


def with_loose_tools(body: Body) -> Body:
    tools = [
        {"strict": False, **tool} if tool["type"] == "function" else tool for tool in body.get("tools", [])
    ]
    return {**body, "tools": tools} if tools else body


def with_plain_text(body: Body) -> Body:
    def plain(item: Body) -> Body:
        match item.get("content"):
            case [{"type": "input_text" | "output_text", "text": text}]:
                return {**item, "content": text}
            case _:
                return item

    return {**body, "input": [plain(item) for item in body["input"]]}


def with_joined_messages(body: Body) -> Body:
    joined: list[Body] = []
    for message in body["messages"]:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = {**message, "content": [*joined[-1]["content"], *message["content"]]}
        else:
            joined.append(message)
    return {**body, "messages": joined}


def as_chat(body: Body) -> Body:
    if "prompt" not in body:
        return body
    message = {"role": "user", "content": body["prompt"]}
    return {
        **{key: value for key, value in body.items() if key not in ("prompt", "raw")},
        "messages": [message],
    }


DIFFERENCES = (
    Difference("ollama", "a prompt of /api/generate becomes the message that /api/chat takes", as_chat),
    Difference(None, "a field that says nothing (null, empty) is left out", without_empty_fields),
    Difference(
        None,
        "tools that are not plain functions come last; empty descriptions are left out",
        with_plain_tools,
    ),
    Difference(
        "openai-chat",
        "usage is always asked for; `auto` is what a missing tool_choice means",
        without_defaults,
    ),
    Difference("openai-chat", "one stop sequence is a list of one", with_listed_stop),
    Difference(
        "openai-chat",
        "`developer` is OpenAI's newer name of `system`, which all vendors take",
        with_system_role,
    ),
    Difference(
        "openai-chat", "thinking goes back only where `reasoning_field` asks for it", without_reasoning
    ),
    Difference("openai-chat", "beside calls, no content is null, empty or absent", without_empty_content),
    Difference("openai-chat", "a message that says nothing is left out", without_empty_messages),
    Difference(
        "openai-chat", "an id that the vendor never gave (Writer) is empty, not absent", with_empty_ids
    ),
    Difference(
        "openai-responses",
        "a tool that does not say so is not strict: the API would change a schema that was not written for it",
        with_loose_tools,
    ),
    Difference("openai-responses", "text alone is the same as a list of one part", with_plain_text),
    Difference(
        "bedrock", "messages of one side in a row are one, as most models demand", with_joined_messages
    ),
    Difference("anthropic", "text alone is the same as a list of one text block", with_listed_content),
    Difference("anthropic", "`is_error: false` is what its absence means", without_success_marks),
    *(Difference("gemini", reason, apply) for reason, apply in gemini_differences.RULES),
)


def each_message(body: Body, change: Callable[[Body], Body]) -> Body:
    return {**body, "messages": [change(message) for message in body["messages"]]}


def requests() -> list[Any]:
    """Return every recorded request of our wires, or one parameter that skips if there is no corpus."""
    folder = os.environ.get("TURNSTREAM_CORPUS")
    if not folder:
        return [
            pytest.param(
                "", "", b"", id="no-corpus", marks=pytest.mark.skip(reason="TURNSTREAM_CORPUS is not set")
            )
        ]
    index = json.loads((Path(folder) / "index.json").read_text(encoding="utf-8"))
    return [
        pytest.param(
            entry["wire"], entry["request"]["uri"] or "", (Path(folder) / file).read_bytes(), id=file
        )
        for entry in index
        if entry["wire"] in WIRES and (file := entry["request"].get("file"))
    ]


def normal(wire: str, body: Body, *, leave: Difference | None = None) -> Body:
    for rule in DIFFERENCES:
        if rule.wire in (None, wire) and rule is not leave:
            body = rule.apply(body)
    return body


def again(wire: str, uri: str, raw: bytes) -> Body:
    return json.loads(WIRES[wire].encode_request(WIRES[wire].decode_request(uri, raw)).body)


@pytest.mark.parametrize(("wire", "uri", "raw"), requests())
@pytest.mark.requirement("E1", "F1", "G6", "P4")
def test_a_recorded_request_is_written_again_as_it_was(wire: str, uri: str, raw: bytes) -> None:
    assert normal(wire, again(wire, uri, raw)) == normal(wire, json.loads(raw))


@pytest.mark.parametrize(("wire", "uri", "raw"), requests())
def test_what_was_written_again_is_written_so_for_ever(wire: str, uri: str, raw: bytes) -> None:
    written = again(wire, uri, raw)
    assert again(wire, uri, json.dumps(written).encode()) == written


@pytest.mark.parametrize("rule", DIFFERENCES, ids=lambda rule: rule.reason[:40])
def test_every_allowed_difference_is_one_that_occurs(rule: Difference) -> None:
    if not os.environ.get("TURNSTREAM_CORPUS"):
        pytest.skip("TURNSTREAM_CORPUS is not set")
    for wire, uri, raw in (param.values for param in requests()):
        if rule.wire not in (None, wire):
            continue
        try:
            if normal(wire, again(wire, uri, raw), leave=rule) != normal(wire, json.loads(raw), leave=rule):
                return
        except KeyError:
            return  # what the rule takes away is what the others build on
    pytest.fail("no recording needs this rule: take it out")
