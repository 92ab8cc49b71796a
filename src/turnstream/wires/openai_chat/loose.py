"""Decodes a chat.completions chunk with unusual types or unknown fields.

Content may be a list of parts, arguments may be an object, reasoning may be an object or a list (`thoughts`),
and strings may hold half a surrogate pair. Unknown fields of a delta go into its `extras`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnstream.wires.openai_chat.chunks import ABSENT, Choice, Chunk, Delta, FunctionDelta, ToolCallDelta
from turnstream.wires.shared.json_values import JsonObject, as_text, is_blank, is_list, is_object
from turnstream.wires.shared.lenient_json import encode_json, replace_surrogates
from turnstream.wires.shared.thoughts import NO_THOUGHT, Thought, is_thought, read_thought

_REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "thought", "reasoning_summary")
_OF_ONE_TYPE = (
    "annotations", "function_call", "provider_metadata", "provider_specific_fields", "reasoning_details",
    "refusal", "signature", "thinking_blocks", "tool_calls",
)  # fmt: skip
"""Fields that become extras if their value has an unreadable type."""
_NAMING = frozenset({"type", "index", "id", "format", "status", "closed"})
_KNOWN_OF_A_DELTA = frozenset(
    {field.encode_name for field in msgspec.structs.fields(Delta)} | set(_REASONING)
)
_KNOWN_OF_A_CALL = frozenset({"index", "id", "function", "type", "custom"})


class MessageTexts:
    """Texts of a stream that has a `message` in place of a delta.

    Each message may bring more text, or all text so far. Both are read.
    """

    def __init__(self) -> None:
        self.is_used = False
        self._texts: dict[tuple[int, str], list[str]] = {}
        self._lengths: dict[tuple[int, str], int] = {}

    def more_of(self, message: JsonObject, index: int) -> JsonObject:
        """Return the part of a message of the choice `index` that is new."""
        self.is_used = True
        more = dict(message)
        for field in ("content", "refusal", *_REASONING):
            text = message.get(field)
            if not isinstance(text, str) or not text:
                continue
            known = self._texts.setdefault((index, field), [])
            length = self._lengths.get((index, field), 0)
            if 0 < length <= len(text) and text.startswith(before := "".join(known)):
                known[:] = [before]  # joined only if the message may repeat it all, to stay linear
                more[field] = text = text[length:]
            known.append(text)
            self._lengths[index, field] = length + len(text)
        return more


def decode_loosely(value: JsonObject, messages: MessageTexts | None) -> Chunk:
    """Return a chunk from parsed JSON with fields of any types. `messages` is None if each `message` only
    repeats earlier deltas."""
    raw_choices = value.get("choices")
    choices: list[Choice] | None = None
    if is_list(raw_choices):
        choices = [
            choice for item in raw_choices if is_object(item) for choice in _choices_of(item, messages)
        ]
    return Chunk(
        choices=choices,
        id=_repaired_text(value.get("id")),
        model=_repaired_text(value.get("model")),
        usage=_repaired_object(value.get("usage")),
        error=replace_surrogates(value.get("error")),
        x_groq=_repaired_object(value.get("x_groq")),
        citations=_raw(value.get("citations")),
        search_results=_raw(value.get("search_results")),
    )


def _choices_of(item: JsonObject, messages: MessageTexts | None) -> list[Choice]:
    """Return the choices of an item: several with the same index if its content is a list of parts."""
    index = item.get("index")
    index = index if isinstance(index, int) else 0
    raw = item.get("delta")
    if isinstance(raw, str):
        raw = {"content": raw}
    if not is_object(raw):
        raw = {"content": item.get("text")}
        if messages is not None and is_object(message := item.get("message")) and message:
            raw = messages.more_of(message, index)
    deltas = _deltas_of(raw) if is_object(raw) else [Delta()]
    choices = [Choice(delta=delta, index=index) for delta in deltas]
    last = choices[-1]
    last.text = as_text(item.get("text"))
    last.finish_reason = _repaired_text(item.get("finish_reason"))
    last.usage = _repaired_object(item.get("usage"))
    last.error = replace_surrogates(item.get("error"))
    return choices


def _deltas_of(raw: JsonObject) -> list[Delta]:
    content = raw.get("content")
    parts = content if is_list(content) else [content] if is_object(content) else []
    found = raw.get("tool_calls")
    tool_calls = found if is_list(found) else [found]
    extras = {key: item for key, item in raw.items() if key not in _KNOWN_OF_A_DELTA and not is_blank(item)}
    text = None if parts else as_text(content)
    if not text and not parts and is_object(audio := extras.get("audio")):
        text = _take_transcript(audio, extras)
    thought = _thought_of(raw, extras)
    delta = Delta(
        content=text,
        reasoning_content=thought.text or None,
        signature=_repaired_text(thought.signature or raw.get("signature")) or None,
        tool_calls=[_tool_call(call) for call in tool_calls if is_object(call)] or None,
        reasoning_details=_details(raw.get("reasoning_details")),
        refusal=as_text(raw.get("refusal")),
        annotations=replace_surrogates(notes) if is_list(notes := raw.get("annotations")) else None,
        function_call=_function(raw.get("function_call")),
        thinking_blocks=_entries(raw.get("thinking_blocks")),
        provider_specific_fields=_repaired_object(raw.get("provider_specific_fields")),
        provider_metadata=_repaired_object(raw.get("provider_metadata")),
    )
    unread = {
        key: raw[key] for key in _OF_ONE_TYPE if getattr(delta, key) is None and not is_blank(raw.get(key))
    }
    delta.extras = replace_surrogates(extras | unread) or None
    return [*(_delta_of_part(part) for part in parts), delta]


def _thought_of(raw: JsonObject, extras: JsonObject) -> Thought:
    """Return the reasoning of a delta, from the first field that has some. Unreadable values go into
    `extras`."""
    found = NO_THOUGHT
    for name in _REASONING:
        value = raw.get(name)
        if value is None:
            continue
        thought = read_thought(value)
        if thought == NO_THOUGHT and not is_blank(value):
            extras[name] = value
        found = Thought(found.text or thought.text, found.signature or thought.signature)
    return found


def _details(value: Any) -> list[Any] | None:
    """Return `reasoning_details` as a list of objects. A string becomes a text detail."""
    items = value if is_list(value) else [value] if value else []
    found = [{"type": "reasoning.text", "text": item} if isinstance(item, str) else item for item in items]
    return replace_surrogates(found) or None


def _entries(value: Any) -> list[Any] | None:
    """Return `thinking_blocks` as a list. A string becomes an entry with this text."""
    items = value if is_list(value) else [value] if value else []
    found = [{"thinking": item} if isinstance(item, str) else item for item in items]
    return replace_surrogates([item for item in found if is_object(item)]) or None


def _take_transcript(audio: JsonObject, extras: JsonObject) -> str | None:
    """Return the transcript of spoken output, to replace text that is null. The rest stays in `extras`."""
    words = as_text(audio.get("transcript"))
    rest = {key: item for key, item in audio.items() if key != "transcript" or words is None}
    extras["audio"] = rest
    if is_blank(rest):
        del extras["audio"]
    return words


def _delta_of_part(part: Any) -> Delta:
    """Return the delta of one content part (Mistral): text, thinking, a reference, or extras."""
    if not is_object(part):
        return Delta(content=as_text(part))
    match part.get("type"):
        case "text" | "output_text":
            return Delta(content=as_text(part.get("text")))
        case kind if is_thought(kind):
            thought = read_thought(part)
            if thought != NO_THOUGHT or is_blank({k: v for k, v in part.items() if k not in _NAMING}):
                signature = _repaired_text(thought.signature) or None
                part = replace_surrogates(part) if signature and is_list(part.get("summary")) else None
                return Delta(reasoning=thought.text, signature=signature, signed_part=part)
            return Delta(extras={"content": replace_surrogates(part)})
        case "refusal":
            return Delta(refusal=as_text(part.get("refusal")))
        case "reference" | "citation" | "url_citation":
            return Delta(annotations=[replace_surrogates(part)])
        case _:
            return Delta() if is_blank(part) else Delta(extras={"content": replace_surrogates(part)})


def _tool_call(call: JsonObject) -> ToolCallDelta:
    """Return a fragment of a call. The free text of a custom tool becomes its arguments. A name and arguments
    outside `function` belong to the function."""
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
        _repaired_text(call.get("id")),
        _function(function),
        extras=replace_surrogates(extras) or None,
    )


def _function(value: Any) -> FunctionDelta | None:
    if not is_object(value):
        return None
    arguments = value.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = encode_json(arguments).decode()
    return FunctionDelta(_repaired_text(value.get("name")), arguments)


def _repaired_text(value: Any) -> str | None:
    return replace_surrogates(as_text(value))


def _repaired_object(value: Any) -> JsonObject | None:
    return replace_surrogates(value) if is_object(value) else None


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(encode_json(replace_surrogates(value))) if value else ABSENT
