"""Streams of the providers' own SDKs, read by the decoders of turnstream's wires.

An SDK's event is the provider's JSON, parsed. The adapter writes it as JSON again for the wire's decoder. So
end markers, usage and vendors' fields work as on the wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias, cast

import msgspec

from turnstream.adapters.opening import ForeignStream, opened
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ConnectionFailed, ProviderError, ProviderTimeout
from turnstream.wires import WIRES
from turnstream.wires.base import Decoder, Wire
from turnstream.wires.recording import frame_line

_ToJson: TypeAlias = Callable[[Any], str | None]
"""Function that returns the provider's JSON of an SDK's event, or None if the SDK invented the event."""

_ANTHROPIC_EVENTS = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    }
)
_WITH_SNAPSHOTS = frozenset({"content_block_stop", "message_stop"})
_BESIDE_THE_WIRE = frozenset({"parsed_output", "snapshot"})


def from_openai_chat(stream: ForeignStream) -> AsyncIterator[list[StreamEvent]]:
    """Yield the events of `AsyncOpenAI().chat.completions.create(…, stream=True)`, or of `.stream(…)`.

    Pass `stream_options={"include_usage": True}` to get usage. Raises ProviderError.
    """
    return _decoded(stream, WIRES["openai-chat"], _chat_chunk)


def from_openai_responses(stream: ForeignStream) -> AsyncIterator[list[StreamEvent]]:
    """Yield the events of `AsyncOpenAI().responses.create(…, stream=True)`, or `.stream(…)`.

    Raises ProviderError.
    """
    return _decoded(stream, WIRES["openai-responses"], responses_event)


def from_anthropic(stream: ForeignStream) -> AsyncIterator[list[StreamEvent]]:
    """Yield the events of `AsyncAnthropic().messages.create(…, stream=True)`, or `.stream(…)`.

    Raises ProviderError.
    """
    return _decoded(stream, WIRES["anthropic"], _anthropic_event)


def from_gemini(stream: ForeignStream) -> AsyncIterator[list[StreamEvent]]:
    """Yield the events of `genai.Client().aio.models.generate_content_stream(…)`. Raises ProviderError."""
    return _decoded(stream, WIRES["gemini"], _gemini_chunk)


def from_ollama(stream: ForeignStream) -> AsyncIterator[list[StreamEvent]]:
    """Yield the events of `ollama.AsyncClient().chat(…, stream=True)`. Raises ProviderError."""
    return _decoded(stream, WIRES["ollama"], _ollama_line)


async def _decoded(stream: ForeignStream, wire: Wire, to_json: _ToJson) -> AsyncIterator[list[StreamEvent]]:
    decoder = wire.decoder()
    try:
        async with opened(stream) as items:
            async for item in items:
                text = to_json(item)
                if text is not None and (events := decoder.feed(frame_line(wire, text.encode()))):
                    yield events
    except ProviderError:
        raise
    except Exception as error:
        events = _told_in_stream(wire, decoder, error)
        if not events:
            raise _failure(wire, error) from error
        yield events
        return
    if events := decoder.close():
        yield events


def _chat_chunk(event: Any) -> str | None:
    if (kind := getattr(event, "type", None)) is not None and not hasattr(event, "choices"):
        return event.chunk.model_dump_json(exclude_unset=True) if kind == "chunk" else None
    return event.model_dump_json(exclude_unset=True)


def responses_event(event: Any) -> str | None:
    """Return the JSON of an event of the Responses API."""
    return event.model_dump_json(exclude_unset=True, exclude=_BESIDE_THE_WIRE, by_alias=True, warnings=False)


def _anthropic_event(event: Any) -> str | None:
    if event.type not in _ANTHROPIC_EVENTS:
        return None
    snapshots = {"content_block", "message"} if event.type in _WITH_SNAPSHOTS else None
    return event.model_dump_json(exclude_unset=True, exclude=snapshots, warnings=False)


def _gemini_chunk(chunk: Any) -> str | None:
    return chunk.model_dump_json(by_alias=True, exclude_none=True, exclude={"sdk_http_response", "parsed"})


def _ollama_line(line: Any) -> str | None:
    return line.model_dump_json(exclude_none=True)


def _told_in_stream(wire: Wire, decoder: Decoder, error: Exception) -> list[StreamEvent]:
    """Return the events of an error that the provider sent in its stream, and that its SDK raised."""
    body: Any = getattr(error, "body", None)
    if body is None and isinstance(said_by_ollama := getattr(error, "error", None), str):
        body = {"error": said_by_ollama}
    if not isinstance(body, dict) or getattr(error, "status_code", 200) >= 400:
        return []
    told = cast("dict[str, Any]", body)
    said = told if "error" in told else {"error": told}
    try:
        return decoder.feed(frame_line(wire, msgspec.json.encode(said)))
    except (ProviderError, TypeError):
        return []


def _failure(wire: Wire, error: Exception) -> Exception:
    """Return the typed error for an SDK's exception, or the exception itself if there is none."""
    status: Any = getattr(error, "status_code", None) or getattr(error, "code", None)
    if isinstance(status, int) and status >= 400:
        response: Any = getattr(error, "response", None)
        return wire.decode_error(
            status, getattr(response, "headers", None) or {}, _refused_body(error, response)
        )
    names = {kind.__name__ for kind in type(error).__mro__}
    if "APITimeoutError" in names:
        return ProviderTimeout("the provider did not answer in time", code="idle_timeout", detail=str(error))
    if "APIConnectionError" in names:
        return ConnectionFailed("the provider could not be reached", retryable=True, detail=str(error))
    return error


def _refused_body(error: Exception, response: Any) -> bytes:
    """Return the body of a refusal. Google's SDK keeps it parsed, in `details`."""
    if isinstance(details := getattr(error, "details", None), dict):
        return msgspec.json.encode(details, enc_hook=repr)
    if response is None and isinstance(said := getattr(error, "error", None), str):
        return msgspec.json.encode({"error": said})
    try:
        return cast("Any", response).content
    except (AttributeError, RuntimeError):  # the body was not read before the response was closed
        return b""
