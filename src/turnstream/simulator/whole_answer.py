"""An answer without a stream: the events of the stream, folded into the one JSON message that a provider sends then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec

from turnstream.core.blocks import Block, Message
from turnstream.errors import ProviderError
from turnstream.simulator.actions import Action, Refuse, Send
from turnstream.simulator.faults import final_action, instead_of_answer, refusal
from turnstream.simulator.options import Options
from turnstream.simulator.playback import first_delay, prepare, recut
from turnstream.simulator.replay import Replay
from turnstream.wires.base import ModelRequest, Wire
from turnstream.wires.lenient_json import decode_json, encode_json
from turnstream.wires.recording import decode_pieces

_Object: TypeAlias = dict[str, Any]
_BREAKING_OFF = frozenset({"cut", "reset", "silence", "malformed", "no-end"})


def play_whole(
    request: ModelRequest, wire: Wire, *, header: str = "", replay: Replay | None = None
) -> Iterator[Action]:
    """The actions that answer `request` with one JSON object, after the time that the stream would have taken.

    Faults: `error` is an HTTP error; what breaks a stream off, or spoils an event of it, breaks the JSON off in its
    middle; a huge event is as much white space. For the rest see `playback.play`.
    """
    try:
        options, pace, frames = prepare(request, wire, header=header, replay=replay, unspoiled=True)
    except ProviderError as error:
        status, words = wire.encode_error(error)
        yield Refuse(status, {}, words)
        return
    pieces = list(frames)
    decoded = decode_pieces(wire, pieces)
    instead = instead_of_answer(options, wire)
    if instead is None:
        instead = _refusal(options, wire, decoded)
    if instead is not None:
        yield instead
        return
    body = encode_json(_DUMPS[wire.name](decoded, _message(wire, decoded)))
    if options.fault in _BREAKING_OFF:
        body = body[: len(body) // 2]
    elif options.fault == "huge-event":
        body += b" " * options.size
    write = Send(first_delay(options) + pace * len(pieces), body)
    yield from recut((write,), options.chunk) if options.chunk else (write,)
    final = final_action(options, wire)
    if final is not None:
        yield final


def _refusal(options: Options, wire: Wire, decoded: _Object) -> Refuse | None:
    """The HTTP error for a fault, or for a recording that holds an error."""
    if options.fault == "error":
        return refusal(options, wire)
    if decoded["error"] is not None:
        return refusal(
            msgspec.structs.replace(options, fault="error", code=str(decoded["error"]["code"])), wire
        )
    return None


def _message(wire: Wire, decoded: _Object) -> _Object:
    """What was said in the wire's words, which are those of the history that a request carries."""
    blocks = tuple(
        Block(block["sequence"], block["block_type"], block["text_content"], block["content"])
        for block in decoded["blocks"]
    )
    post = wire.encode_request(ModelRequest(decoded["model"] or "", (Message("assistant", blocks),)))
    said: list[_Object] = [
        message for message in decode_json(post.body)["messages"] if message["role"] == "assistant"
    ]
    return said[0] if said else {"role": "assistant", "content": ""}


def _thought(decoded: _Object) -> str:
    return "".join(
        block["text_content"] or "" for block in decoded["blocks"] if block["block_type"] == "thinking"
    )


def _anthropic(decoded: _Object, message: _Object) -> _Object:
    return {
        "id": decoded["id"],
        "type": "message",
        "role": "assistant",
        "model": decoded["model"],
        "content": message["content"] or [],
        "stop_reason": decoded["raw_stop_reason"],
        "stop_sequence": None,
        "usage": decoded["raw_usage"] or {},
    }


def _openai_chat(decoded: _Object, message: _Object) -> _Object:
    thought = _thought(decoded)
    spoken = {**message, "refusal": None, **({"reasoning_content": thought} if thought else {})}
    return {
        "id": decoded["id"],
        "object": "chat.completion",
        "created": 0,
        "model": decoded["model"],
        "choices": [
            {"index": 0, "message": spoken, "logprobs": None, "finish_reason": decoded["raw_stop_reason"]}
        ],
        "usage": decoded["raw_usage"],
    }


def _ollama(decoded: _Object, message: _Object) -> _Object:
    thought = _thought(decoded)
    return {
        "model": decoded["model"],
        "created_at": "1970-01-01T00:00:00Z",
        "message": {"content": "", **message, **({"thinking": thought} if thought else {})},
        "done": True,
        "done_reason": decoded["raw_stop_reason"],
        **(decoded["raw_usage"] or {}),
    }


_DUMPS: dict[str, Callable[[_Object, _Object], _Object]] = {
    "anthropic": _anthropic,
    "openai-chat": _openai_chat,
    "ollama": _ollama,
}
