"""Scripted answers as StreamEvents. The same request gets the same answer."""

from __future__ import annotations

import random
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast
from zlib import crc32

import msgspec

from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StopReason,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import InvalidModelRequest
from turnstream.simulator import texts
from turnstream.simulator.options import SimulatorOptions, parse_model_name
from turnstream.wires.base import ModelRequest, ToolDefinition

_WORD = re.compile(r"\S+\s*|\s+")
_ECHO_LIMIT = 400
_TOKENS = frozenset({TextDelta, ThinkingDelta, ToolInputDelta})


class Script(NamedTuple):
    """An answer to play once."""

    message_id: str
    model: str
    options: SimulatorOptions
    pace: float
    """Seconds per event."""
    events: Iterator[StreamEvent]
    """Events, made on demand. There may be many."""
    identity: tuple[str | int, ...] | None
    """Key that scripts with the same events share, or None if it is unknown."""


def script_for(request: ModelRequest, header: str = "") -> Script:
    """Return the answer to `request`, which its model's name and the header `X-Simulate` choose.

    Raises ModelNotFound or InvalidModelRequest.
    """
    name, options = parse_model_name(request.model, header)
    tell, pace = _SCRIPTS[name]
    said = last_user_text(request)
    content = tell(request, options)
    begun = last_word_of_model(request)
    if begun and options.prefill == "refuse":
        raise InvalidModelRequest("this model cannot continue its own text: end with a user message")
    if begun and options.prefill == "continue":
        content = _without_beginning(list(content), begun)
    message_id = f"msg_sim_{crc32(msgspec.json.encode((request.model, said))):08x}"
    input_tokens = _input_tokens(request)
    return Script(
        message_id,
        request.model,
        options,
        pace if options.pace is None else options.pace,
        _message(MessageStart(message_id, request.model), input_tokens, content),
        (request.model, header, message_id, input_tokens) if name == "story" and not begun else None,
    )


def last_user_text(request: ModelRequest) -> str:
    """Return the text of the last user message."""
    blocks = last_user_message(request).blocks
    return "\n".join(block.text_content or "" for block in blocks if block.block_type == "text")


def last_user_message(request: ModelRequest) -> Message:
    """Return the last message of the user, or an empty one. The model's own text may follow it."""
    found = (message for message in reversed(request.messages) if message.role == "user")
    return next(found, Message("user", ()))


def last_word_of_model(request: ModelRequest) -> str:
    """Return the text that the model must continue, or an empty string if the last message is not its own."""
    if not request.messages or request.messages[-1].role != "assistant":
        return ""
    return "".join(block.text_content or "" for block in request.messages[-1].blocks)


def _without_beginning(content: list[StreamEvent], begun: str) -> Iterator[StreamEvent]:
    """Return the content without the text `begun` at its beginning, or all of it if it begins differently."""
    rest = begun
    start: list[StreamEvent] = []
    for place, event in enumerate(content):
        if isinstance(event, ContentBlockStart):
            start = [event] if event.block_type == "text" else []
        if not isinstance(event, TextDelta):
            continue
        if not event.text.startswith(rest):
            if not rest.startswith(event.text):
                break
            rest = rest[len(event.text) :]
            continue
        more = [TextDelta(event.index, event.text[len(rest) :])] if event.text != rest else []
        return iter([*start, *more, *content[place + 1 :]])
    return iter(content)


def _message(start: MessageStart, input_tokens: int, content: Iterator[StreamEvent]) -> Iterator[StreamEvent]:
    """Yield an answer's content between its start and its end marker. A delta counts as a token."""
    yield start
    yield Metadata(Usage(input_tokens))
    output_tokens = 0
    stop_reason: StopReason = "end_turn"
    for event in content:
        if type(event) in _TOKENS:
            output_tokens += 1
        elif type(event) is ContentBlockStart and event.block_type == "tool_use":
            stop_reason = "tool_use"
        yield event
    yield Metadata(Usage(input_tokens, output_tokens))
    yield MessageStop(stop_reason)


def _input_tokens(request: ModelRequest) -> int:
    """Return the number of words, in place of a tokenizer."""
    said = (block.text_content or "" for message in request.messages for block in message.blocks)
    return max(1, sum(len(text.split()) for text in (request.system or "", *said)))


def _pieces(text: str) -> list[str]:
    """Return `text` in small deltas, a word each."""
    return _WORD.findall(text)


def _text(index: int, text: str) -> Iterator[StreamEvent]:
    return _text_of(index, _pieces(text))


def _text_of(index: int, pieces: Iterable[str]) -> Iterator[StreamEvent]:
    yield ContentBlockStart(index, "text")
    for piece in pieces:
        yield TextDelta(index, piece)
    yield ContentBlockStop(index)


def _demo(request: ModelRequest, _options: SimulatorOptions) -> Iterator[StreamEvent]:
    said = last_user_text(request).strip()
    if len(said) > _ECHO_LIMIT:
        said = said[:_ECHO_LIMIT] + "…"
    return _text(0, texts.DEMO.format(said=texts.quoted(said) if said else texts.EMPTY_CONVERSATION))


def _echo(request: ModelRequest, _options: SimulatorOptions) -> Iterator[StreamEvent]:
    return _text(0, last_user_text(request) or texts.EMPTY_CONVERSATION)


def _thinking(_request: ModelRequest, options: SimulatorOptions) -> Iterator[StreamEvent]:
    yield from _thought(options)
    yield from _text_of(1, _graphemes_cut(texts.UNUSUAL))


def _thought(options: SimulatorOptions) -> Iterator[StreamEvent]:
    """Yield the answer's first block, a signed thought."""
    yield ContentBlockStart(0, "thinking")
    for piece in _graphemes_cut(texts.THOUGHT):
        yield ThinkingDelta(0, piece)
    yield SignatureDelta(0, _signature(options))
    yield ContentBlockStop(0)


def _signature(options: SimulatorOptions) -> str:
    """Return the signature of the thought. Clients of some wires require Base64."""
    return b64encode(b"sim-%08x-%d" % (crc32(texts.THOUGHT.encode()), options.seed)).decode()


def _graphemes_cut(text: str) -> list[str]:
    """Return pieces of three characters.

    This separates CR from LF, and letters from their combining marks.
    """
    return [text[start : start + 3] for start in range(0, len(text), 3)]


def _story(_request: ModelRequest, options: SimulatorOptions) -> Iterator[StreamEvent]:
    return story(options.events, options.seed)


def story(deltas: int, seed: int) -> Iterator[StreamEvent]:
    """Yield one text block of exactly `deltas` deltas."""
    draw = random.Random(seed)  # noqa: S311  not for secrets
    yield ContentBlockStart(0, "text")
    sentence_left = 0
    for number in range(deltas):
        word = draw.choice(texts.STORY_WORDS)
        if sentence_left == 0:
            sentence_left = draw.randint(5, 14)
            word = word.capitalize()
        sentence_left -= 1
        if sentence_left:
            yield TextDelta(0, word + " ")
        else:
            yield TextDelta(0, word + (".\n\n" if number % 60 > 50 else ". "))
    yield ContentBlockStop(0)


def _tools(request: ModelRequest, options: SimulatorOptions, first: int = 0) -> Iterator[StreamEvent]:
    """Call two tools at once, or repeat their results. `first`: index of the first block."""
    said = last_user_message(request)
    results = [block for block in said.blocks if block.block_type == "tool_result"]
    if results:
        yield from _text(first, "The tools say: " + "; ".join(_result_text(result) for result in results))
        return
    yield from _text(first, "Let me look that up." if request.tools else texts.NO_TOOLS)
    for number, tool in enumerate((request.tools * 2)[:2]):
        yield from _tool_call(first + 1 + number, tool, f"toolu_sim_{options.seed}_{number}")


def _agent(request: ModelRequest, options: SimulatorOptions) -> Iterator[StreamEvent]:
    """Think, speak and call two tools at once. With their results, think again and repeat them."""
    yield from _thought(options)
    yield from _tools(request, options, first=1)


def _tool_call(index: int, tool: ToolDefinition, tool_use_id: str) -> Iterator[StreamEvent]:
    yield ContentBlockStart(index, "tool_use", {"tool_use_id": tool_use_id, "tool_name": tool.name})
    arguments = msgspec.json.encode(example_of(tool.input_schema, index)).decode()
    for start in range(0, len(arguments), 7):
        yield ToolInputDelta(index, arguments[start : start + 7])
    yield ContentBlockStop(index)


def _result_text(result: Block) -> str:
    content = (result.content or {}).get("content", result.text_content)
    text = content if isinstance(content, str) else msgspec.json.encode(content).decode()
    return text[:_ECHO_LIMIT]


def example_of(schema: Any, number: int, depth: int = 0) -> Any:
    """Return a value that fits a JSON Schema of a plain tool.

    `number` makes two calls differ. A caller may send something that is not a schema: then any value fits.
    """
    if not isinstance(schema, dict):
        return f"example {number}"
    return _example_of(cast("dict[str, Any]", schema), number, depth)


def _example_of(schema: dict[str, Any], number: int, depth: int) -> Any:
    if isinstance(options := schema.get("enum"), list) and options:
        return cast("list[Any]", options)[number % len(cast("list[Any]", options))]
    if isinstance(examples := schema.get("examples"), list) and examples:
        return cast("list[Any]", examples)[number % len(cast("list[Any]", examples))]
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    kind: Any = schema.get("type")
    kinds: list[Any] = cast("list[Any]", kind) if isinstance(kind, list) else [kind]
    match kinds[0] if kinds else None:
        case "string":
            return f"example {number}"
        case "integer" | "number":
            least = schema.get("minimum")
            return max(number, least) if isinstance(least, int | float) else number
        case "boolean":
            return True
        case "array":
            return (
                [example_of(schema["items"], number, depth + 1)] if schema.get("items") and depth < 8 else []
            )
        case "null":
            return None
        case _:
            given = schema.get("properties")
            properties = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
            required = schema.get("required")
            wanted = cast("list[Any]", required) if isinstance(required, list) and required else properties
            return {
                str(name): example_of(properties.get(str(name), {}), number, depth + 1)
                for name in wanted
                if depth < 8
            }


_SCRIPTS: dict[str, tuple[Callable[[ModelRequest, SimulatorOptions], Iterator[StreamEvent]], float]] = {
    "demo": (_demo, 0.02),
    "echo": (_echo, 0.02),
    "thinking": (_thinking, 0.01),
    "tools": (_tools, 0.02),
    "agent": (_agent, 0.01),
    "story": (_story, 0.02),
}
"""Scripts by name, each with its pace in seconds per event."""
