"""Our params in the form of each wire, and read back."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.blocks import Block, Message
from turnstream.errors import InvalidRequest, MalformedEvent
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest, ToolDefinition

OURS = ("anthropic", "openai-chat", "ollama")
EVERY_WIRE = pytest.mark.parametrize("wire", OURS)
HELLO = Message("user", (Block(0, "text", "hello"),))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = ToolDefinition("look", "Looks", {"type": "object", "properties": {}})
PDF = base64.b64encode(b"%PDF-1.7 ...").decode()
MARK = {"type": "ephemeral"}


def asked(
    wire: str, *, model: str = "m", system: str | None = None, tools: Any = (), **params: Any
) -> ModelRequest:
    return ModelRequest(model, (HELLO,), system, tools, params)


def body_of(wire: str, request: ModelRequest) -> dict[str, Any]:
    return json.loads(WIRES[wire].encode_request(request).body)


def again(wire: str, request: ModelRequest) -> ModelRequest:
    post = WIRES[wire].encode_request(request)
    return WIRES[wire].decode_request(post.path, post.body)


@EVERY_WIRE
@pytest.mark.requirement("J3")
@pytest.mark.parametrize("stream", [True, False])
def test_a_stream_or_a_whole_answer(wire, stream):
    request = ModelRequest("m", (HELLO,), stream=stream)
    post = WIRES[wire].encode_request(request)
    assert json.loads(post.body)["stream"] is stream
    assert (post.headers["accept"] == "application/json") is not stream
    assert again(wire, request).stream is stream
    assert "stream_options" not in json.loads(post.body) or stream


@pytest.mark.requirement("F1")
@pytest.mark.parametrize("wire", sorted(WIRES))
def test_a_choice_of_tools_goes_with_tools_only(wire):
    with_tools = body_of(wire, asked(wire, tools=(TOOL,), tool_choice="auto"))
    assert "look" in json.dumps(with_tools)
    without = json.dumps(body_of(wire, asked(wire, tool_choice="auto")))
    assert not re.search("tool_?choice|tool_?config|function_?calling", without, re.IGNORECASE)


@pytest.mark.requirement("F1")
class TestStructuredOutput:
    OUR_FORMAT = {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}

    @pytest.mark.parametrize(
        ("wire", "field", "sent"),
        [
            ("anthropic", "output_config", {"format": {"type": "json_schema", "schema": SCHEMA}}),
            (
                "openai-chat",
                "response_format",
                {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            ),
            ("ollama", "format", SCHEMA),
        ],
    )
    def test_a_schema(self, wire, field, sent):
        request = asked(wire, response_format=self.OUR_FORMAT)
        assert body_of(wire, request)[field] == sent
        understood = again(wire, request).params["response_format"]
        assert understood["schema"] == SCHEMA
        assert body_of(wire, asked(wire, response_format=understood))[field] == sent
        openai_shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
        assert body_of(wire, asked(wire, response_format=openai_shape))[field] == sent

    def test_a_schema_needs_no_name(self):
        request = asked("openai-chat", response_format={"type": "json_schema", "schema": SCHEMA})
        assert body_of("openai-chat", request)["response_format"]["json_schema"]["name"] == "answer"

    def test_any_object(self):
        anything = {"type": "json_object"}
        assert (
            body_of("openai-chat", asked("openai-chat", response_format=anything))["response_format"]
            == anything
        )
        assert body_of("ollama", asked("ollama", response_format=anything))["format"] == "json"
        with pytest.raises(InvalidRequest, match="json_schema, schema"):
            body_of("anthropic", asked("anthropic", response_format=anything))

    @pytest.mark.parametrize("wire", ["anthropic", "ollama"])
    @pytest.mark.parametrize("given", [5, "json", {"type": "xml"}, {"type": "json_schema", "schema": 3}])
    def test_anything_else_is_refused(self, wire, given):
        with pytest.raises(InvalidRequest, match="response_format must be"):
            body_of(wire, asked(wire, response_format=given))

    def test_what_only_a_vendor_knows_passes_through(self):
        own = {"type": "json_object", "schema": SCHEMA}
        assert body_of("openai-chat", asked("openai-chat", response_format=own))["response_format"] == own


@pytest.mark.requirement("F1")
class TestThinking:
    @pytest.mark.parametrize(
        ("model", "thinking", "sent", "effort"),
        [
            ("claude-sonnet-4-5", {"budget_tokens": 2000}, {"type": "enabled", "budget_tokens": 2000}, None),
            ("claude-sonnet-4-5", {"effort": "low"}, {"type": "enabled", "budget_tokens": 2048}, None),
            (
                "claude-opus-4-20250514",
                {"effort": "high"},
                {"type": "enabled", "budget_tokens": 16_384},
                None,
            ),
            ("claude-opus-4-6", {"budget_tokens": 2000}, {"type": "enabled", "budget_tokens": 2000}, None),
            ("claude-opus-4-6", {"effort": "high"}, {"type": "adaptive"}, "high"),
            ("claude-opus-4-8", {"budget_tokens": 2000}, {"type": "adaptive"}, "low"),
            ("claude-sonnet-5-5", {"budget_tokens": 9000}, {"type": "adaptive"}, "high"),
            ("claude-sonnet-5-5", {"effort": "max"}, {"type": "adaptive"}, "max"),
            ("claude-sonnet-5-5", {"type": "disabled"}, {"type": "disabled"}, None),
        ],
    )
    def test_anthropic_is_asked_in_the_words_of_the_model(self, model, thinking, sent, effort):
        request = asked("anthropic", model=model, thinking=thinking)
        body = body_of("anthropic", request)
        assert body["thinking"] == sent
        assert body.get("output_config", {}).get("effort") == effort
        assert body["max_tokens"] > 8192 or sent == {"type": "disabled"}
        assert body_of("anthropic", again("anthropic", request)) == body

    def test_what_else_is_said_of_thinking_goes_along(self):
        shown = {"effort": "low", "display": "summarized"}
        request = asked("anthropic", model="claude-opus-5-5", thinking=shown)
        assert body_of("anthropic", request)["thinking"] == {"type": "adaptive", "display": "summarized"}
        assert again("anthropic", request).params["thinking"] == shown

    @pytest.mark.parametrize(
        ("model", "thinking", "room"),
        [
            ("claude-opus-4-8", None, 0),
            ("claude-opus-5-5", None, 16_384),
            ("claude-sonnet-5-5", {"type": "disabled"}, 0),
            ("claude-sonnet-5-5", {"effort": "low"}, 2048),
        ],
    )
    def test_an_answer_has_room_beside_thinking_that_nobody_asked_for(self, model, thinking, room):
        assert (
            body_of("anthropic", asked("anthropic", model=model, thinking=thinking))["max_tokens"]
            == 8192 + room
        )

    def test_an_effort_stands_beside_a_schema(self):
        request = asked(
            "anthropic", thinking={"effort": "low"}, response_format={"type": "json_schema", "schema": SCHEMA}
        )
        assert body_of("anthropic", request)["output_config"].keys() == {"effort", "format"}
        assert again("anthropic", request).params["thinking"] == {"effort": "low"}

    def test_openai(self):
        request = asked("openai-chat", thinking={"effort": "medium"})
        assert body_of("openai-chat", request)["reasoning_effort"] == "medium"
        assert again("openai-chat", request).params["thinking"] == {"effort": "medium"}

    @pytest.mark.parametrize(("model", "sent"), [("gpt-oss:20b", "low"), ("qwen3", True)])
    def test_ollama(self, model, sent):
        assert body_of("ollama", asked("ollama", model=model, thinking={"effort": "low"}))["think"] == sent

    def test_an_unknown_effort_where_a_budget_is_needed(self):
        with pytest.raises(InvalidRequest, match=r"thinking\.effort is one of minimal, low"):
            body_of("anthropic", asked("anthropic", model="claude-sonnet-4-5", thinking={"effort": "vast"}))


@pytest.mark.requirement("F1")
class TestOthers:
    @EVERY_WIRE
    def test_extra_body_wins_over_everything(self, wire):
        body = body_of(
            wire, asked(wire, temperature=1, extra_body={"temperature": 0.5, "of_tomorrow": {"x": 1}})
        )
        assert (body["temperature"], body["of_tomorrow"]) == (0.5, {"x": 1})
        assert "extra_body" not in body

    @pytest.mark.parametrize("wire", WIRES)
    @pytest.mark.parametrize(("param", "value"), [("extra_body", [1]), ("stop", 5), ("tools", {"a": 1})])
    def test_params_that_make_no_sense(self, wire, param, value):
        with pytest.raises(InvalidRequest, match=param):
            body_of(wire, ModelRequest("m", (HELLO,), params={param: value}))

    @EVERY_WIRE
    def test_what_is_null_is_left_out(self, wire):
        params = dict.fromkeys(
            (
                "temperature",
                "stop",
                "thinking",
                "response_format",
                "cache",
                "extra_body",
                "parallel_tool_calls",
            )
        )
        plain = body_of(wire, asked(wire, tools=(TOOL,)))
        assert body_of(wire, asked(wire, tools=(TOOL,), **params)) == plain

    @EVERY_WIRE
    def test_one_stop_sequence_is_a_list_of_one(self, wire):
        assert body_of(wire, asked(wire, stop="x")) == body_of(wire, asked(wire, stop=["x"]))

    def test_one_call_at_a_time(self):
        alone = {"tools": (TOOL,), "parallel_tool_calls": False}
        assert body_of("openai-chat", asked("openai-chat", **alone))["parallel_tool_calls"] is False
        assert body_of("anthropic", asked("anthropic", **alone))["tool_choice"] == {
            "type": "auto",
            "disable_parallel_tool_use": True,
        }
        forced = body_of("anthropic", asked("anthropic", **alone, tool_choice={"name": "look"}))[
            "tool_choice"
        ]
        assert forced == {"type": "tool", "name": "look", "disable_parallel_tool_use": True}
        none = body_of("anthropic", asked("anthropic", **alone, tool_choice="none"))["tool_choice"]
        assert none == {"type": "none"}
        for wire in OURS:
            assert "parallel_tool_calls" not in body_of(wire, asked(wire, parallel_tool_calls=False))

    def test_cache_marks(self):
        request = asked("anthropic", system="Be good.", tools=(ToolDefinition("first"), TOOL), cache=True)
        body = body_of("anthropic", request)
        assert body["system"] == [{"type": "text", "text": "Be good.", "cache_control": MARK}]
        assert [tool.get("cache_control") for tool in body["tools"]] == [None, MARK]
        assert body["messages"][-1]["content"] == [{"type": "text", "text": "hello", "cache_control": MARK}]
        understood = again("anthropic", request)
        assert (understood.params["cache"], understood.system, understood.tools[1]) == (
            True,
            "Be good.",
            TOOL,
        )

    def test_a_thought_cannot_be_marked(self):
        said = (Block(0, "text", "x"), Block(1, "thinking", "t", {"signature": "s"}))
        request = ModelRequest("m", (HELLO, Message("assistant", said)), params={"cache": True})
        text, thought = body_of("anthropic", request)["messages"][-1]["content"]
        assert text["cache_control"] == MARK
        assert "cache_control" not in thought

    @pytest.mark.parametrize("wire", ["openai-chat", "ollama"])
    def test_where_the_cache_needs_no_hint(self, wire):
        assert body_of(wire, asked(wire, cache=True)) == body_of(wire, asked(wire))
        assert body_of("openai-chat", asked(wire, prompt_cache_key="k"))["prompt_cache_key"] == "k"


@pytest.mark.requirement("F1")
class TestDocuments:
    PDF_FILE = {"media_type": "application/pdf", "data": PDF, "title": "a.pdf"}
    LINKED = {"url": "https://example.org/a.pdf"}
    TEXT = {"text": "It says so.", "title": "Notes"}
    TEXT_FILE = {"media_type": "text/markdown", "data": base64.b64encode(b"# Hi").decode()}

    def dump(self, wire: str, content: dict[str, Any]) -> Any:
        request = ModelRequest(
            "m", (Message("user", (Block(0, "document", None, content), Block(1, "text", "?"))),)
        )
        return body_of(wire, request)["messages"][0]

    def test_anthropic(self):
        def source(content):
            return self.dump("anthropic", content)["content"][0]

        assert source(self.PDF_FILE) == {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
        }
        assert source(self.LINKED)["source"] == {"type": "url", "url": "https://example.org/a.pdf"}
        text = {"type": "text", "media_type": "text/plain", "data": "It says so."}
        assert source(self.TEXT) == {"type": "document", "title": "Notes", "source": text}
        assert source(self.TEXT_FILE)["source"] == {
            "type": "text",
            "media_type": "text/plain",
            "data": "# Hi",
        }
        with pytest.raises(InvalidRequest, match="cannot read documents of type 'application/msword'"):
            source({"media_type": "application/msword", "data": PDF})

    def test_openai(self):
        def part(content):
            return self.dump("openai-chat", content)["content"][0]

        data = f"data:application/pdf;base64,{PDF}"
        assert part(self.PDF_FILE) == {"type": "file", "file": {"filename": "a.pdf", "file_data": data}}
        assert part(self.TEXT) == {"type": "text", "text": "Notes\n\nIt says so."}
        assert part(self.TEXT_FILE) == {"type": "text", "text": "# Hi"}
        with pytest.raises(InvalidRequest, match="data instead of a url"):
            part(self.LINKED)
        blocks = (Block(0, "document", None, self.PDF_FILE), Block(1, "text", "?"))
        request = ModelRequest("m", (Message("user", blocks),))
        assert again("openai-chat", request).messages == request.messages

    def test_ollama(self):
        assert self.dump("ollama", self.TEXT)["content"] == "Notes\n\nIt says so.\n\n?"
        assert self.dump("ollama", self.TEXT_FILE)["content"] == "# Hi\n\n?"
        for content in (self.PDF_FILE, self.LINKED):
            with pytest.raises(InvalidRequest, match="reads text alone"):
                self.dump("ollama", content)

    @EVERY_WIRE
    def test_broken_base64(self, wire):
        with pytest.raises(InvalidRequest, match="not base64"):
            self.dump(wire, {"media_type": "text/plain", "data": "%%%"})


SAID = [
    "m",
    "auto",
    "required",
    "json_schema",
    "json_object",
    "text",
    "effort",
    "low",
    "adaptive",
    "enabled",
    "ephemeral",
]
KEYS = [
    "type", "schema", "json_schema", "name", "strict", "effort", "budget_tokens", "format", "function", "cache_control",
    "content", "role", "text", "source", "data", "media_type", "url", "title", "file", "file_data", "parameters",
    "parts", "functionCall", "thinkingConfig", "thinkingLevel", "functionDeclarations", "functionCallingConfig", "mode",
    "toolUse", "toolSpec", "inputSchema", "textFormat", "effort", "structure", "jsonSchema", "input", "call_id", "summary",
]  # fmt: skip
FIELDS = [
    "system", "tools", "tool_choice", "stop", "stop_sequences", "thinking", "think", "reasoning_effort", "output_config",
    "response_format", "format", "cache", "extra_body", "parallel_tool_calls", "max_tokens", "options", "stream", "messages",
    "input", "instructions", "reasoning", "text", "contents", "generationConfig", "toolConfig", "systemInstruction",
    "inferenceConfig", "outputConfig", "additionalModelRequestFields",
]  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9000) | st.sampled_from(SAID),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=50, deadline=None)
@given(params=st.dictionaries(st.sampled_from(FIELDS), anything, max_size=4), claude=st.booleans())
@pytest.mark.requirement("K4")
def test_any_params_make_a_request_or_are_refused(wire, params, claude):
    """Callers of the HTTP API choose the names. A name breaks only its own request."""
    request = ModelRequest("claude-sonnet-4-5" if claude else "m", (HELLO,), "s", (TOOL,), params)
    try:
        json.loads(WIRES[wire].encode_request(request).body)
    except InvalidRequest:
        pass


@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=50, deadline=None)
@given(fields=st.dictionaries(st.sampled_from(FIELDS), anything, max_size=5))
@pytest.mark.requirement("K4")
def test_any_body_is_understood_or_refused(wire, fields):
    post = WIRES[wire].encode_request(ModelRequest("m", (HELLO,)))
    try:
        request = WIRES[wire].decode_request(
            post.path, json.dumps({**json.loads(post.body), **fields}).encode()
        )
    except (InvalidRequest, MalformedEvent):
        return
    try:
        WIRES[wire].encode_request(request)
    except InvalidRequest:
        pass
