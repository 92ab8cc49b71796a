"""Answers without a stream: the events are folded into the one JSON object that a provider sends."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from turnstream.core.stream_events import StreamError
from turnstream.errors import ProviderError
from turnstream.simulator.actions import Action, Refuse, Send
from turnstream.simulator.faults import final_action, instead_of_answer, refusal
from turnstream.simulator.options import SimulatorOptions
from turnstream.simulator.playback import PLAIN, PlayContext, first_delay, prepare, rechunk
from turnstream.wires.base import ModelRequest, Wire
from turnstream.wires.recording import fold_pieces

_BREAKING_OFF = frozenset({"cut", "reset", "silence", "malformed", "no-end"})


def play_whole(request: ModelRequest, wire: Wire, context: PlayContext = PLAIN) -> Iterator[Action]:
    """Yield the actions that answer `request` with one JSON object, as late as a stream would end.

    The fault `error` becomes an HTTP error. Faults that break a stream off, or spoil an event, break the JSON
    off in the middle. A huge event becomes white space of its size. For the rest see `playback.play`.
    """
    try:
        options, pace, frames = prepare(request, wire, context, without_fault=True)
    except ProviderError as error:
        yield Refuse.of(error, wire)
        return
    pieces = list(frames)
    fold, broken = fold_pieces(wire, pieces)
    answer = fold.finish()
    instead = instead_of_answer(options, wire, request)
    if instead is None:
        instead = _refusal(options, wire, answer.error or broken)
    if instead is not None:
        yield instead
        return
    body = wire.encode_answer(answer)
    if options.fault in _BREAKING_OFF:
        body = body[: len(body) // 2]
    elif options.fault == "huge-event":
        body += b" " * options.size
    write = Send(first_delay(options) + pace * len(pieces), body)
    yield from rechunk((write,), options.chunk) if options.chunk else (write,)
    final = final_action(options, wire)
    if final is not None:
        yield final


def _refusal(
    options: SimulatorOptions, wire: Wire, error: StreamError | ProviderError | None
) -> Refuse | None:
    """Return the HTTP error for a fault, or for a recording that holds an error."""
    if options.fault == "error":
        return refusal(options, wire)
    if error is not None:
        return refusal(msgspec.structs.replace(options, fault="error", code=error.code), wire)
    return None
