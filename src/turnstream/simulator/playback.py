"""Actions of a simulated provider for one request: bytes, pauses and faults, without I/O.

The server plays them on a socket, the in-process provider on a decoder, so a fault means the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from turnstream.errors import InvalidModelRequest, ProviderError
from turnstream.simulator.actions import Action, Refuse, Send
from turnstream.simulator.fault_names import MODEL_ENDINGS, REDACTING_WIRES
from turnstream.simulator.faults import DEFAULT_AFTER, final_action, inserted, instead_of_answer, with_fault
from turnstream.simulator.options import SimulatorOptions, parse_replay_options
from turnstream.simulator.outages import Outages
from turnstream.simulator.replay import Replay
from turnstream.simulator.script import Script, script_for
from turnstream.wires.base import ModelRequest, Wire

WRITE_SIZE = 64 * 1024
"""Bytes of one write if `batch` is 0."""
_ENDLESS_FAULTS = frozenset({"error", "cut", "reset", "silence", "no-end"})

_CACHED_EVENTS = 50_000
_CACHED_STORIES = 4
_stories: dict[tuple[str | int, ...], tuple[bytes, ...]] = {}
"""Cache of encoded stories: load tests repeat the same one."""


class PreparedAnswer(NamedTuple):
    """An answer before it is played: its options, seconds per event, and the events of its body."""

    options: SimulatorOptions
    pace: float
    frames: Iterable[bytes]


class PlayContext(NamedTuple):
    """Inputs of an answer besides its request."""

    header: str = ""
    """Header `X-Simulate` of the request. Its options override those of the model's name."""
    replay: Replay | None = None
    """Recording to answer with instead of a script, of the same wire."""
    outages: Outages | None = None
    """Memory of temporary faults. None: faults are permanent."""


PLAIN = PlayContext()


def play(request: ModelRequest, wire: Wire, context: PlayContext = PLAIN) -> Iterator[Action]:
    """Yield the actions that answer `request`.

    The body ends after the last action. Cut, Reset, Stall and Hang come last.
    """
    try:
        options, pace, frames = prepare(request, wire, context)
    except ProviderError as error:
        yield Refuse.of(error, wire)
        return
    instead = instead_of_answer(options, wire, request)
    if instead is not None:
        yield instead
        return
    writes = _paced(frames, options, pace)
    yield from rechunk(writes, options.chunk) if options.chunk else writes
    final = final_action(options, wire)
    if final is not None:
        yield final


def prepare(
    request: ModelRequest, wire: Wire, context: PlayContext, *, without_fault: bool = False
) -> PreparedAnswer:
    """Return the answer that `play` plays. If `without_fault`, leave out faults of the stream.

    Raises ModelNotFound or InvalidModelRequest.
    """
    header, replay, outages = context
    name = f"{wire.name} {request.model} {header}"
    if replay is not None:
        options = parse_replay_options(request.model, header, replay.options)
        options = outages.options_now(name, options) if outages is not None else options
        return PreparedAnswer(
            options,
            options.pace or 0.0,
            replay.frames(_without_stream_fault(options) if without_fault else options),
        )
    script = script_for(request, header)
    if outages is not None:
        script = script._replace(options=outages.options_now(name, script.options))
    wires = REDACTING_WIRES.get(script.options.fault, (wire.name,))
    if wire.name not in wires:
        raise InvalidModelRequest(f"fault={script.options.fault} is only for the wires {', '.join(wires)}")
    shown = script._replace(options=_without_stream_fault(script.options)) if without_fault else script
    return PreparedAnswer(script.options, script.pace, _frames(shown, wire))


def _without_stream_fault(options: SimulatorOptions) -> SimulatorOptions:
    """Return the options without a fault of the stream. An end of the model's answer stays."""
    return options if options.fault in MODEL_ENDINGS else msgspec.structs.replace(options, fault=None)


def _frames(script: Script, wire: Wire) -> Iterable[bytes]:
    """Return the events of the body."""
    options = script.options
    if script.identity is None or options.fault is not None or options.events > _CACHED_EVENTS:
        return _encode(script, wire)
    key = (wire.name, *script.identity)
    frames = _stories.get(key)
    if frames is None:
        if len(_stories) >= _CACHED_STORIES:
            del _stories[next(iter(_stories))]
        frames = _stories[key] = tuple(_encode(script, wire))
    return frames


def _encode(script: Script, wire: Wire) -> Iterator[bytes]:
    options = script.options
    encoder = wire.encoder(model=script.model, message_id=script.message_id)
    foreign = inserted(options, wire)
    after = DEFAULT_AFTER if options.after is None else options.after
    for number, event in enumerate(with_fault(script.events, options)):
        if number == after and foreign is not None:
            yield from foreign
        yield encoder.feed((event,))
    if options.fault not in _ENDLESS_FAULTS:
        yield encoder.close()


def _paced(frames: Iterable[bytes], options: SimulatorOptions, pace: float) -> Iterator[Send]:
    """Yield writes, each with a batch of frames. An event without a frame adds its pace to the next write."""
    delay = first_delay(options)
    pending: list[bytes] = []
    size = 0
    for frame in frames:
        if frame:
            pending.append(frame)
            size += len(frame)
            if len(pending) == options.batch or (not options.batch and size >= WRITE_SIZE):
                yield Send(delay, b"".join(pending))
                pending.clear()
                delay = 0.0
                size = 0
        delay += pace
    if pending:
        yield Send(delay, b"".join(pending))


def first_delay(options: SimulatorOptions) -> float:
    """Return the seconds before the first byte."""
    return options.first + (options.seconds if options.fault == "slow-first" else 0.0)


def rechunk(writes: Iterable[Send], size: int) -> Iterator[Send]:
    """Yield the body in writes of `size` bytes, which may end inside an event."""
    delay = 0.0
    rest = bytearray()
    for write in writes:
        delay += write.delay
        rest += write.data
        start = 0
        while len(rest) - start >= size:
            yield Send(delay, bytes(rest[start : start + size]))
            delay = 0.0
            start += size
        del rest[:start]
    if rest:
        yield Send(delay, bytes(rest))
