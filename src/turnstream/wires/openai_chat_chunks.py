"""The JSON of a chat.completions stream, as loosely as vendors write it.

Two ways lead to a `Chunk`. Nearly every event takes the typed one: msgspec, straight into these structs. What
surprises it (content as a list of parts, arguments as an object, a field of a delta that nobody announced, half a
surrogate pair) takes the loose one, which understands more and costs more. Deltas refuse unknown fields, so that what
one vendor alone has ends up in `extras` and is never dropped in silence.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnstream.wires.json_values import JsonObject, as_text, is_blank, is_list, is_object
from turnstream.wires.lenient_json import encode_json, mend_surrogates

ABSENT = msgspec.Raw()
EXTRAS = "(extras)"
"""The name of the field for unknown fields: one that nobody sends."""


class FunctionDelta(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A fragment of a call. `extras` as in `Delta`."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None
    type: Any = None
    extras: JsonObject | None = msgspec.field(default=None, name=EXTRAS)


class Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What a choice gains. `extras` (never sent under this name) holds the fields that nothing else knows."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    reasoning_details: list[Any] | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    function_call: FunctionDelta | None = None
    role: Any = None
    channel: Any = None
    token_id: Any = None
    extras: JsonObject | None = msgspec.field(default=None, name=EXTRAS)


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    index: int | None = 0
    finish_reason: str | None = None
    usage: JsonObject | None = None
    error: Any = None
    text: str | None = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    id: str | None = None
    model: str | None = None
    usage: JsonObject | None = None
    error: Any = None
    x_groq: JsonObject | None = None
    citations: msgspec.Raw = ABSENT
    search_results: msgspec.Raw = ABSENT


decode_typed = msgspec.json.Decoder(Chunk).decode
"""The fast way. Raises ValueError or RecursionError where the loose one must be tried."""

_REASONING = ("reasoning_content", "reasoning_text", "thinking")
_KNOWN_OF_A_DELTA = frozenset(
    {field.encode_name for field in msgspec.structs.fields(Delta)} | set(_REASONING)
)
_KNOWN_OF_A_CALL = frozenset({"index", "id", "function", "type", "custom"})
_KNOWN_OF_A_CHUNK = frozenset(
    {
        "id",
        "object",
        "created",
        "model",
        "choices",
        "usage",
        "citations",
        "search_results",
        "obfuscation",
        "p",
        "error",
    }
)
_KNOWN_OF_A_CHOICE = frozenset(
    {"index", "delta", "message", "finish_reason", "usage", "logprobs", "token_ids", "text", "error", "seed"}
)


def decode_loosely(value: JsonObject, *, whole: bool) -> Chunk:
    """A chunk out of parsed JSON, whatever types its fields have. `whole`: a choice's `message`, where there is no
    delta, is the answer itself, and not the repetition of deltas that came before."""
    raw_choices = value.get("choices")
    choices: list[Choice] | None = None
    if is_list(raw_choices):
        choices = [
            choice for item in raw_choices if is_object(item) for choice in _choices_of(item, whole=whole)
        ]
    return Chunk(
        choices=choices,
        id=_mended_text(value.get("id")),
        model=_mended_text(value.get("model")),
        usage=_mended_object(value.get("usage")),
        error=mend_surrogates(value.get("error")),
        x_groq=_mended_object(value.get("x_groq")),
        citations=_raw(value.get("citations")),
        search_results=_raw(value.get("search_results")),
    )


def leftovers(value: JsonObject) -> JsonObject:
    """What a vendor says beside the answer: of the chunk, and of its first choice."""
    found = {key: item for key, item in value.items() if key not in _KNOWN_OF_A_CHUNK and not is_blank(item)}
    choices = value.get("choices")
    if is_list(choices) and choices and is_object(choices[0]):
        first = choices[0].items()
        found |= {key: item for key, item in first if key not in _KNOWN_OF_A_CHOICE and not is_blank(item)}
    return mend_surrogates(found)


def _choices_of(item: JsonObject, *, whole: bool) -> list[Choice]:
    """A choice; several of one index where its content is a list of parts."""
    raw = item.get("delta")
    if not is_object(raw):
        raw = (item.get("message") if whole else None) or {"content": item.get("text")}
    index = item.get("index")
    deltas = _deltas_of(raw) if is_object(raw) else [Delta()]
    choices = [Choice(delta=delta, index=index if isinstance(index, int) else 0) for delta in deltas]
    last = choices[-1]
    last.text = as_text(item.get("text"))
    last.finish_reason = _mended_text(item.get("finish_reason"))
    last.usage = _mended_object(item.get("usage"))
    last.error = mend_surrogates(item.get("error"))
    return choices


def says_anything(delta: Delta) -> bool:
    """Return True if a delta has any of the fields that bring the answer, even an empty one."""
    return delta != Delta(role=delta.role, channel=delta.channel, token_id=delta.token_id)


def _deltas_of(raw: JsonObject) -> list[Delta]:
    content = raw.get("content")
    parts = content if is_list(content) else [content] if is_object(content) else []
    found = raw.get("tool_calls")
    tool_calls = found if is_list(found) else [found]
    extras = {key: item for key, item in raw.items() if key not in _KNOWN_OF_A_DELTA and not is_blank(item)}
    text = None if parts else as_text(content)
    if not text and not parts and is_object(audio := extras.get("audio")):
        text = _take_transcript(audio, extras)
    delta = Delta(
        content=text,
        reasoning_content=next((text for name in _REASONING if (text := as_text(raw.get(name)))), None),
        reasoning=as_text(raw.get("reasoning")),
        tool_calls=[_tool_call(call) for call in tool_calls if is_object(call)],
        reasoning_details=_mended_list(raw.get("reasoning_details")),
        refusal=as_text(raw.get("refusal")),
        annotations=_mended_list(raw.get("annotations")),
        function_call=_function(raw.get("function_call")),
        extras=mend_surrogates(extras) or None,
    )
    return [*(_delta_of_part(part) for part in parts), delta]


def _take_transcript(audio: JsonObject, extras: JsonObject) -> str | None:
    """Return the words of spoken output, which stand for the text that is null. The rest stays in `extras`."""
    words = as_text(audio.get("transcript"))
    rest = {key: item for key, item in audio.items() if key != "transcript" or words is None}
    extras["audio"] = rest
    if is_blank(rest):
        del extras["audio"]
    return words


def _delta_of_part(part: Any) -> Delta:
    """One of a list of content parts (Mistral): text, thinking, a reference, or what is kept as it is."""
    if not is_object(part):
        return Delta(content=as_text(part))
    match part.get("type"):
        case "text" | "output_text":
            return Delta(content=as_text(part.get("text")))
        case "thinking" | "reasoning":
            return Delta(reasoning=_text_of_parts(part.get("thinking") or part.get("text")))
        case "refusal":
            return Delta(refusal=as_text(part.get("refusal")))
        case "reference" | "citation" | "url_citation":
            return Delta(annotations=[mend_surrogates(part)])
        case _:
            return Delta() if is_blank(part) else Delta(extras={"content": mend_surrogates(part)})


def _text_of_parts(value: Any) -> str:
    if is_list(value):
        return "".join(_text_of_parts(item) for item in value)
    return as_text(value.get("text") if is_object(value) else value) or ""


def _tool_call(call: JsonObject) -> ToolCallDelta:
    """Read a fragment of a call. A custom tool's free text counts as its arguments. A name and arguments that stand
    beside the function, or without one, are the function's."""
    index = call.get("index")
    function = call.get("function")
    if not is_object(function) and is_object(custom := call.get("custom")):
        function = {"name": custom.get("name"), "arguments": custom.get("input")}
    extras = {key: item for key, item in call.items() if key not in _KNOWN_OF_A_CALL and not is_blank(item)}
    if flat := {key: extras.pop(key) for key in ("name", "arguments") if key in extras}:
        given = function if is_object(function) else {}
        function = {**flat, **{key: item for key, item in given.items() if not is_blank(item)}}
    return ToolCallDelta(
        index if isinstance(index, int) else None,
        _mended_text(call.get("id")),
        _function(function),
        extras=mend_surrogates(extras) or None,
    )


def _function(value: Any) -> FunctionDelta | None:
    if not is_object(value):
        return None
    arguments = value.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = encode_json(arguments).decode()
    return FunctionDelta(_mended_text(value.get("name")), arguments)


def _mended_text(value: Any) -> str | None:
    return mend_surrogates(as_text(value))


def _mended_object(value: Any) -> JsonObject | None:
    return mend_surrogates(value) if is_object(value) else None


def _mended_list(value: Any) -> list[Any] | None:
    return mend_surrogates(value) if is_list(value) else None


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(encode_json(mend_surrogates(value))) if value else ABSENT
