"""chat.completions both ways: what is encoded decodes to itself, streams and requests and errors alike."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidModelRequest,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.openai_chat.wire import WIRE

START = MessageStart("c", "m")


def encode(*events: StreamEvent) -> bytes:
    encoder = WIRE.encoder(model="model", message_id="id")
    return encoder.feed(events) + encoder.close()


def payloads(data: bytes) -> list[Any]:
    frames = data.decode().split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [frame[6:] if frame.endswith("[DONE]") else json.loads(frame[6:]) for frame in frames]


def deltas(data: bytes) -> list[Any]:
    return [p["choices"][0]["delta"] for p in payloads(data) if isinstance(p, dict) and p.get("choices")]


def decode(data: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return [*decoder.feed(data), *decoder.close()]


# --- the stream ---------------------------------------------------------------------------------------------


def test_the_encoder_writes_what_openai_writes() -> None:
    data = encode(
        START,
        ContentBlockStart(0, "thinking"),
        ThinkingDelta(0, "hm"),
        SignatureDelta(0, "sig"),
        ContentBlockStop(0),
        ContentBlockStart(1, "text"),
        TextDelta(1, 'He"\n'),
        TextDelta(1, "llo"),
        ContentBlockStop(1),
        ContentBlockStart(2, "tool_use", {"tool_use_id": "a", "tool_name": "f"}),
        ToolInputDelta(2, "{}"),
        ContentBlockStop(2),
        Metadata(Usage(3, 4, reasoning_tokens=1)),
        MessageStop("tool_use"),
    )
    found = payloads(data)
    assert found[-1] == "[DONE]"
    for payload in found[:-1]:
        assert payload["object"] == "chat.completion.chunk"
        assert (payload["id"], payload["model"]) == ("c", "m")
        assert isinstance(payload["created"], int)
    assert deltas(data) == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": 'He"\n'},
        {"content": "llo"},
        {
            "tool_calls": [
                {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert [p["choices"][0]["finish_reason"] for p in found[:-2]] == [None] * 6 + ["tool_calls"]
    assert found[-2]["choices"] == []
    assert found[-2]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def test_without_usage_no_usage_chunk() -> None:
    assert payloads(encode(START, MessageStop("end_turn")))[1:] == [
        {
            **payloads(encode(START))[0],
            "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
        },
        "[DONE]",
    ]


def test_usage_of_another_provider_is_counted_whole() -> None:
    usage = Metadata(Usage(10, 5, 100, 20), {"input_tokens": 10, "cache_read_input_tokens": 100})
    found = payloads(encode(START, usage, MessageStop("end_turn")))[-2]["usage"]
    assert found == {
        "prompt_tokens": 130,
        "completion_tokens": 5,
        "total_tokens": 135,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20},
    }
    own = Metadata(Usage(10, 5), {"prompt_tokens": 10, "completion_tokens": 5, "cost": 1})
    assert payloads(encode(START, own, MessageStop("end_turn")))[-2]["usage"] == own.raw


@pytest.mark.requirement("D6", "P5")
def test_a_broken_stream_is_not_ended_by_the_encoder() -> None:
    assert b"[DONE]" not in encode(START, TextDelta(0, "a"))
    failed = encode(START, TextDelta(0, "a"), StreamError("throttling", "rate_limit_error", "slow down"))
    assert b"[DONE]" not in failed
    assert payloads(failed)[-1] == {
        "error": {
            "message": "slow down",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    last = decode(failed)[-1]
    assert isinstance(last, StreamError)
    assert (last.kind, last.code, last.message) == ("throttling", "rate_limit_error", "slow down")


@pytest.mark.parametrize(
    "code",
    [
        "rate_limit_error", "overloaded_error", "authentication_error", "permission_error", "not_found_error",
        "invalid_request_error", "context_length_exceeded", "content_filtered", "api_error", "timeout_error", "insufficient_quota",
    ],
)  # fmt: skip
def test_error_codes_survive_the_wire(code: str) -> None:
    last = decode(encode(StreamError("validation", code, "boom")))[-1]
    assert isinstance(last, StreamError)
    assert (last.code, last.message) == (code, "boom")


def test_what_the_wire_cannot_say_is_left_out() -> None:
    server_tool = {"tool_use_id": "s", "tool_name": "web_search", "provider_executed": True}
    data = encode(
        START,
        ContentBlockStart(0, "tool_use", server_tool),
        ToolInputDelta(0, '{"q":1}'),
        ContentBlockStop(0),
        ContentBlockStart(1, "tool_result", {"tool_use_id": "s", "content": [], "provider_executed": True}),
        ContentBlockStop(1),
        ContentBlockStart(2, "thinking", {"redacted": "xx"}),
        ContentBlockStop(2),
        StreamNotice("n", "m"),
        ContentBlockStart(3, "provider", {"type": "compaction"}),
        ContentBlockStop(3),
        MessageStop("end_turn"),
    )
    assert deltas(data) == [{"role": "assistant", "content": ""}, {}]


def test_input_that_was_known_from_the_start_is_sent() -> None:
    start = ContentBlockStart(0, "tool_use", {"tool_use_id": "a", "tool_name": "f", "input": {"x": 1}})
    data = encode(START, start, ContentBlockStop(0), MessageStop("tool_use"))
    assert deltas(data)[2] == {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":1}'}}]}


def test_a_message_without_its_start_gets_the_given_name() -> None:
    first = payloads(encode(TextDelta(0, "a"), MessageStop("end_turn")))
    assert (first[0]["id"], first[0]["model"]) == ("id", "model")
    assert first[1]["choices"][0]["delta"] == {"content": "a"}


@pytest.mark.requirement("B4")
def test_half_a_surrogate_pair_goes_over_as_it_came() -> None:
    events = [
        START,
        ContentBlockStart(0, "text"),
        TextDelta(0, "a\ud83d"),
        TextDelta(0, "\ude00"),
        ContentBlockStop(0),
        MessageStop("end_turn", "stop"),
    ]
    assert decode(encode(*events)) == events


# Canonical sequences: those that the decoder itself makes. A message starts with its id and model; a block of text or
# thinking stops before the next begins, and no two of one type stand in a row (but thinking whose details have another
# index); a call is stopped when the next block begins if its arguments are whole, else at the end; deltas are not
# empty; a signature comes with the details that it is from; usage is one Metadata before the last block is
# stopped, and MessageStop is last.

texts = st.text(min_size=1, max_size=8)


@st.composite
def text_blocks(draw: st.DrawFn, index: int) -> list[StreamEvent]:
    refusal = draw(st.booleans())
    content = {"provider_metadata": {"refusal": True}} if refusal else None
    events: list[StreamEvent] = [
        TextDelta(index, text) for text in draw(st.lists(texts, min_size=1, max_size=4))
    ]
    if not refusal and draw(st.booleans()):
        events.insert(
            draw(st.integers(1, len(events))), ContentDelta(index, {"citations": [{"url": f"u{index}"}]})
        )
    return [ContentBlockStart(index, "text", content), *events, ContentBlockStop(index)]


@st.composite
def thinking_blocks(draw: st.DrawFn, index: int) -> list[StreamEvent]:
    events: list[StreamEvent] = [
        ThinkingDelta(index, text) for text in draw(st.lists(texts, min_size=1, max_size=4))
    ]
    if draw(st.booleans()):
        signature = draw(texts)
        whole = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
        detail = {
            "type": "reasoning.text",
            "format": "anthropic-claude-v1",
            "index": 0,
            "text": whole,
            "signature": signature,
        }
        events += [
            SignatureDelta(index, signature),
            ContentDelta(index, {"provider_metadata": {"reasoning_details": [detail]}}),
        ]
    return [ContentBlockStart(index, "thinking"), *events, ContentBlockStop(index)]


@st.composite
def call_blocks(draw: st.DrawFn, index: int) -> list[StreamEvent]:
    arguments = json.dumps(draw(st.dictionaries(texts, st.integers() | texts, max_size=3)))
    places = sorted(draw(st.sets(st.integers(1, len(arguments) - 1), max_size=3)))
    bounds = [0, *places, len(arguments)]
    pieces = [ToolInputDelta(index, arguments[a:b]) for a, b in itertools.pairwise(bounds)]
    content = {"tool_use_id": f"call_{index}", "tool_name": draw(texts)}
    return [ContentBlockStart(index, "tool_use", content), *pieces, ContentBlockStop(index)]


@st.composite
def canonical_messages(draw: st.DrawFn) -> list[StreamEvent]:
    kinds: list[str] = []
    for kind in draw(st.lists(st.sampled_from(["text", "thinking", "call"]), max_size=6)):
        if kind == "call" or not kinds or kinds[-1] != kind:
            kinds.append(kind)
    makers = {"text": text_blocks, "thinking": thinking_blocks, "call": call_blocks}
    events: list[StreamEvent] = [START]
    for index, kind in enumerate(kinds):
        events += draw(makers[kind](index))
    if draw(st.booleans()):
        raw = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}}
        place = len(events)
        while is_end_of_a_block(events[place - 1]):
            place -= 1
        events.insert(place, Metadata(Usage(3, 4, 1), raw))
    events.append(draw(ends(refused=any(is_refusal(event) for event in events), called="call" in kinds)))
    if not {"text", "call"} & set(kinds) and events[-1] == MessageStop("unknown", "wibble"):
        events[-1] = MessageStop("max_tokens", "length")  # an answer without content does not end so
    return events


def is_end_of_a_block(event: StreamEvent) -> bool:
    """What the decoder itself adds where a block stops."""
    gathered = isinstance(event, ContentDelta) and "provider_metadata" in event.content
    return gathered or isinstance(event, ContentBlockStop)


def is_refusal(event: StreamEvent) -> bool:
    return isinstance(event, ContentBlockStart) and event.block_type == "text" and event.content is not None


@st.composite
def ends(draw: st.DrawFn, *, refused: bool, called: bool) -> MessageStop:
    plain = "refusal" if refused else "tool_use" if called else "end_turn"
    stops = [
        MessageStop(plain, "stop"),
        MessageStop("max_tokens", "length"),
        MessageStop("tool_use", "tool_calls"),
        MessageStop("content_filtered", "content_filter"),
        MessageStop("unknown", "wibble"),
    ]
    if plain == "end_turn":
        stops.append(MessageStop("stop_sequence", "stop", "END"))
    return draw(st.sampled_from(stops))


@settings(max_examples=300, deadline=None)
@given(canonical_messages())
@pytest.mark.requirement("E1")
def test_what_is_encoded_decodes_to_itself(events: list[StreamEvent]) -> None:
    assert decode(encode(*events)) == events


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=2, max_size=4), st.data())
@pytest.mark.requirement("B5")
def test_interleaved_calls_survive_the_wire(names: list[str], data: st.DataObject) -> None:
    starts = [
        ContentBlockStart(n, "tool_use", {"tool_use_id": f"c{n}", "tool_name": name})
        for n, name in enumerate(names)
    ]
    opened = [ToolInputDelta(n, '{"x":') for n in range(len(names))]
    order = data.draw(st.permutations(range(len(names))))
    closed = [ToolInputDelta(n, "1}") for n in order]
    stops = [ContentBlockStop(n) for n in range(len(names))]
    events = [
        START,
        *(event for pair in zip(starts, opened, strict=True) for event in pair),
        *closed,
        *stops,
        MessageStop("tool_use", "tool_calls"),
    ]
    assert decode(encode(*events)) == events


# --- requests -----------------------------------------------------------------------------------------------


def request_body(request: ModelRequest) -> Any:
    encoded = WIRE.encode_request(request)
    assert encoded.path == "/chat/completions"
    assert "authorization" not in {name.lower() for name in encoded.headers}
    return json.loads(encoded.body)


def user(*blocks: Block) -> Message:
    return Message("user", blocks)


def said(text: str) -> Block:
    return Block(0, "text", text)


def called(identity: str, name: str, **content: Any) -> Block:
    return Block(0, "tool_use", None, {"tool_use_id": identity, "tool_name": name, **content})


def result(identity: str, content: Any, *, is_error: bool = False) -> Block:
    return Block(0, "tool_result", None, {"tool_use_id": identity, "content": content, "is_error": is_error})


@pytest.mark.requirement("F1")
def test_a_plain_request() -> None:
    body = request_body(
        ModelRequest(
            "gpt-4o",
            (user(said("hi")),),
            "be brief",
            params={"max_tokens": 5, "temperature": 0, "stop": ["x"], "new": 1},
        )
    )
    assert body == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "temperature": 0,
        "stop": ["x"],
        "new": 1,
    }


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("o3-mini", "max_completion_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("gpt-4o", "max_tokens"),
        ("deepseek-chat", "max_tokens"),
        ("openai/o3", "max_tokens"),
    ],
)
def test_the_name_of_the_limit(model: str, field: str) -> None:
    body = request_body(ModelRequest(model, (user(said("hi")),), params={"max_tokens": 5}))
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == {
        field: 5
    }


@pytest.mark.requirement("F1", "B3", "G6")
def test_history_with_everything() -> None:
    details = [{"type": "reasoning.encrypted", "data": "D"}]
    messages = (
        user(
            said("look"),
            Block(1, "image", None, {"media_type": "image/png", "data": "QUJD"}),
            Block(2, "image", None, {"url": "https://e.org/i"}),
        ),
        Message(
            "assistant",
            (
                Block(
                    0,
                    "thinking",
                    "secret",
                    {"signature": "s", "provider_metadata": {"reasoning_details": details}},
                ),
                said("Let me "),
                said("see."),
                called("a", "f", input={"x": 1}, input_json='{"x": 1}'),
                called("b", "g", input=None, input_json="{oops", input_error="not valid JSON"),
                called("s", "web_search", input={}, provider_executed=True),
            ),
        ),
        user(
            result("a", "fine"),
            result(
                "b",
                [
                    {"type": "text", "text": "bad"},
                    {"type": "image", "source": {"media_type": "image/png", "data": "QQ=="}},
                ],
                is_error=True,
            ),
            said("go on"),
        ),
    )
    assert request_body(ModelRequest("m", messages))["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "image_url", "image_url": {"url": "https://e.org/i"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_details": details,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "fine"},
        {"role": "tool", "tool_call_id": "b", "content": "Error: bad\n[image]"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},
                {"type": "text", "text": "go on"},
            ],
        },
    ]


def test_results_inside_an_assistant_turn_split_it() -> None:
    turn = Message(
        "assistant", (said("a"), called("i", "f", input={}), result("i", {"any": "json"}), said("b"))
    )
    assert [
        message["role"] for message in request_body(ModelRequest("m", (user(said("q")), turn)))["messages"]
    ] == ["user", "assistant", "tool", "assistant"]


def test_what_is_empty_is_no_message() -> None:
    messages = (
        user(said("q")),
        Message("assistant", (Block(0, "thinking", "t"), Block(1, "provider", None, {"type": "x"}))),
        user(said("r")),
    )
    assert [message["content"] for message in request_body(ModelRequest("m", messages))["messages"]] == [
        "q",
        "r",
    ]


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, "auto"), ("auto", "auto"), ("any", "required"), ("required", "required"), ("none", "none"),
        ({"name": "f"}, {"type": "function", "function": {"name": "f"}}), ({"type": "allowed_tools", "tools": []}, {"type": "allowed_tools", "tools": []}),
    ],
)  # fmt: skip
def test_tools_and_tool_choice(choice: Any, sent: Any) -> None:
    tool = ToolDefinition("f", "does f", {"type": "object", "properties": {"x": {}}})
    params = {} if choice is None else {"tool_choice": choice}
    body = request_body(ModelRequest("m", (user(said("q")),), tools=(tool,), params=params))
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "does f", "parameters": tool.input_schema},
        }
    ]
    assert body["tool_choice"] == sent
    assert "tool_choice" not in request_body(ModelRequest("m", (user(said("q")),), params=params))


def test_params_that_a_vendor_does_not_know_can_be_left_out() -> None:
    body = request_body(ModelRequest("m", (user(said("q")),), params={"stream_options": None, "seed": None}))
    assert body.keys() == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    ("thinking", "sent"),
    [
        ({"budget_tokens": 1024}, {"reasoning_effort": "low"}),
        ({"budget_tokens": 9000}, {"reasoning_effort": "high"}),
        ({"type": "enabled"}, {"thinking": {"type": "enabled"}}),
    ],
)
def test_a_thinking_budget(thinking: Any, sent: Any) -> None:
    body = request_body(ModelRequest("m", (user(said("q")),), params={"thinking": thinking}))
    assert {name: body[name] for name in ("reasoning_effort", "thinking") if name in body} == sent


json_objects = st.dictionaries(texts, st.integers() | texts | st.booleans(), max_size=3)


def numbered(blocks: list[Block]) -> tuple[Block, ...]:
    return tuple(
        Block(n, block.block_type, block.text_content, block.content) for n, block in enumerate(blocks)
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[Message, ...]:
    """Histories as this wire holds them: text in one block per side, roles that alternate, calls with results."""
    messages: list[Message] = []
    pending: list[Block] = []
    for _ in range(draw(st.integers(1, 4))):
        blocks = [
            result(
                str((call.content or {})["tool_use_id"]),
                draw(texts.filter(lambda t: not t.startswith("Error: "))),
                is_error=draw(st.booleans()),
            )
            for call in pending
        ]
        if not blocks or draw(st.booleans()):
            blocks += draw(
                st.lists(
                    st.one_of(
                        texts.map(said),
                        st.just(Block(0, "image", None, {"url": "u"})),
                        st.just(Block(0, "image", None, {"media_type": "image/png", "data": "QQ=="})),
                    ),
                    min_size=1,
                    max_size=3,
                )
            )
        messages.append(Message("user", numbered(blocks)))
        arguments = draw(st.lists(json_objects, max_size=2))
        pending = [
            called(f"c{len(messages)}{n}", draw(texts), input=value, input_json=json.dumps(value))
            for n, value in enumerate(arguments)
        ]
        spoken = [said(draw(texts))] if not pending or draw(st.booleans()) else []
        messages.append(Message("assistant", numbered([*spoken, *pending])))
    return tuple(messages[:-1])


requests = st.builds(
    ModelRequest,
    model=st.sampled_from(["gpt-4o", "o3", "m"]),
    messages=histories(),
    system=st.none() | texts,
    tools=st.lists(
        st.builds(ToolDefinition, texts, st.text(max_size=5), st.just({"type": "object", "properties": {}})),
        max_size=2,
    ).map(tuple),
    params=st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.integers(1, 9),
            "stop": st.lists(texts, min_size=1),
            "temperature": st.just(0.5),
            "user": texts,
        },
    ),
)


@settings(max_examples=200, deadline=None)
@given(requests)
@pytest.mark.requirement("F1")
def test_a_request_decodes_to_itself(request: ModelRequest) -> None:
    encoded = WIRE.encode_request(request)
    assert WIRE.decode_request(encoded.path, encoded.body) == request


def decode_request(**body: Any) -> ModelRequest:
    return WIRE.decode_request("/v1/chat/completions", json.dumps(body).encode())


def test_requests_of_other_clients() -> None:
    request = decode_request(
        model="m",
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "q", "name": "me"},
            {"role": "user", "content": "r"},
            {
                "role": "assistant",
                "content": None,
                "refusal": "no",
                "function_call": {"name": "f", "arguments": "{"},
            },
            {"role": "function", "name": "f", "content": "Error: broken"},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "x"}, {"type": "refusal", "refusal": "y"}],
            },
            {"role": "system", "content": "late"},
        ],
        stream=True,
        stream_options={"include_usage": True},
        max_completion_tokens=7,
        stop="END",
        tool_choice={"type": "function", "function": {"name": "f"}},
        tools=[{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}],
        n=2,
    )
    assert request.system == "ab\n\nlate"
    assert [message.role for message in request.messages] == ["user", "assistant", "user", "assistant"]
    assert [block.text_content for block in request.messages[0].blocks] == ["q", "r"]
    refusal, call = request.messages[1].blocks
    assert refusal.text_content == "no"
    assert call.content is not None
    assert (call.content["tool_use_id"], call.content["input"], call.content["input_json"]) == (
        "f",
        None,
        "{",
    )
    (failed,) = request.messages[2].blocks
    assert failed.content == {"tool_use_id": "f", "content": "broken", "is_error": True}
    assert request.tools == (ToolDefinition("f"),)
    assert request.params == {
        "max_tokens": 7,
        "stop": ["END"],
        "tool_choice": {"name": "f"},
        "tools": [{"type": "web_search"}],
        "n": 2,
    }


@pytest.mark.requirement("K4")
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{}", b'{"model":"m"}', b'{"model":"","messages":[]}', b'{"model":1,"messages":[]}',
        *(json.dumps({"model": "m", "messages": messages}).encode() for messages in (
            {}, "x", [1], [{"role": "boss", "content": "x"}], [{"content": "x"}], [{"role": "user", "content": 5}], [{"role": "user", "content": [5]}],
            [{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": [{"type": "image_url"}]}], [{"role": "user", "content": [{"type": "file"}]}],
            [{"role": "assistant", "tool_calls": 3}], [{"role": "assistant", "tool_calls": [3]}], [{"role": "assistant", "tool_calls": [{"function": {}}]}],
            [{"role": "tool", "tool_call_id": 5, "content": "x"}],
        )),
        *(json.dumps({"model": "m", "messages": [], "tools": tools}).encode() for tools in (
            {}, "x", [{"type": "function", "function": {}}], [{"type": "function", "function": {"name": "f", "parameters": "x"}}],
        )),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        WIRE.decode_request("/v1/chat/completions", body)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "role",
                        "content",
                        "type",
                        "text",
                        "tool_calls",
                        "function",
                        "name",
                        "model",
                        "messages",
                        "tools",
                        "tool_choice",
                        "stop",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
@pytest.mark.requirement("K4")
def test_any_json_is_a_request_or_refused(value: Any) -> None:
    for body in (
        value,
        {"model": "m", "messages": value},
        {"model": "m", "messages": [], "tools": value, "tool_choice": value, "stop": value},
    ):
        try:
            request = WIRE.decode_request("/v1/chat/completions", json.dumps(body).encode())
        except InvalidRequest:
            continue
        WIRE.encode_request(request)


def test_the_key_is_a_bearer_token() -> None:
    assert WIRE.auth_headers("k") == {"authorization": "Bearer k"}


# --- errors -------------------------------------------------------------------------------------------------


def answer(message: str = "words", **fields: Any) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


@pytest.mark.requirement("D4", "J1", "J2")
@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (401, answer(type="invalid_request_error", code="invalid_api_key"), AuthenticationFailed, "authentication_error"),
        (401, b"<html>no</html>", AuthenticationFailed, "authentication_error"),
        (403, answer(), PermissionDenied, "permission_error"),
        (404, answer(code="model_not_found"), ModelNotFound, "not_found_error"),
        (400, answer(type="invalid_request_error"), InvalidModelRequest, "invalid_request_error"),
        (400, answer(code="context_length_exceeded"), ContextLengthExceeded, "context_length_exceeded"),
        (400, answer("This model's maximum context length is 8192 tokens"), ContextLengthExceeded, "context_length_exceeded"),
        (413, answer("prompt is too long: 9 > 8"), ContextLengthExceeded, "context_length_exceeded"),
        (400, answer(code="content_filter"), ContentFiltered, "content_filtered"),
        (422, b'{"detail":[{"loc":["body"],"msg":"field required"}]}', InvalidModelRequest, "invalid_request_error"),
        (429, answer(type="requests", code="rate_limit_exceeded"), RateLimited, "rate_limit_error"),
        (429, answer(type="insufficient_quota", code="insufficient_quota"), RateLimited, "insufficient_quota"),
        (402, answer(code=402), RateLimited, "insufficient_quota"),
        (500, answer(type="server_error"), ProviderFailed, "api_error"),
        (502, b"", ProviderFailed, "api_error"),
        (503, answer(), Overloaded, "overloaded_error"),
        (529, b"overloaded", Overloaded, "overloaded_error"),
        (504, b"", ProviderTimeout, "timeout_error"),
        (418, answer(), InvalidModelRequest, "invalid_request_error"),
        (400, b'{"object":"error","message":"words","type":"BadRequestError","code":400}', InvalidModelRequest, "invalid_request_error"),
    ],
)  # fmt: skip
def test_errors_by_status_and_code(
    status: int, body: bytes, expected: type[ProviderError], code: str
) -> None:
    error = WIRE.decode_error(status, {}, body)
    assert type(error) is expected
    assert error.code == code
    assert error.provider_status == status
    assert error.retryable is (False if code == "insufficient_quota" else expected.retryable)
    assert "words" not in error.message, "the provider's words are for debugging only"


def test_the_provider_s_words_are_the_detail() -> None:
    assert WIRE.decode_error(400, {}, answer("words")).detail == "words"
    assert WIRE.decode_error(400, {}, b"plain").detail == "plain"
    assert len(WIRE.decode_error(400, {}, b"x" * 10**6).detail or "") < 5000
    assert WIRE.decode_error(500, {}, b"[" * 10**5).code == "api_error"


@pytest.mark.requirement("J1")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5", "Retry-After-Ms": "250"}, 0.25),
        ({"RETRY-AFTER": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert WIRE.decode_error(429, headers, b"").retry_after == seconds


@pytest.mark.requirement("K3")
@pytest.mark.parametrize(
    "kind",
    [
        AuthenticationFailed,
        PermissionDenied,
        ModelNotFound,
        InvalidModelRequest,
        ContextLengthExceeded,
        ContentFiltered,
        RateLimited,
        Overloaded,
        ProviderFailed,
        ProviderTimeout,
    ],
)
def test_an_error_decodes_to_itself(kind: type[ProviderError]) -> None:
    status, body = WIRE.encode_error(kind("for people", detail="the provider's own"))
    assert b"the provider's own" not in body
    again = WIRE.decode_error(status, {}, body)
    assert (type(again), again.detail) == (kind, "for people")
    spent = WIRE.encode_error(RateLimited("spent", code="insufficient_quota", retryable=False))
    assert WIRE.decode_error(spent[0], {}, spent[1]).code == "insufficient_quota"


def test_thinking_goes_back_only_where_the_caller_says_so() -> None:
    turn = Message("assistant", (Block(0, "thinking", "hm"), said("a"), called("i", "f", input={})))
    messages = (user(said("q")), turn, user(result("i", "r")))
    plain = request_body(ModelRequest("m", messages))
    assert "hm" not in json.dumps(plain)
    asked = request_body(ModelRequest("m", messages, params={"reasoning_field": "reasoning_content"}))
    assert asked["messages"][1]["reasoning_content"] == "hm"
    assert "reasoning_field" not in asked
