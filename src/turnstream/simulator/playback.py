"""What a simulated provider does for one request, step by step: bytes, pauses and faults, but no I/O.

The server plays the actions on a socket, the in-process provider on a decoder; so a fault means the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from turnstream.errors import ProviderError
from turnstream.simulator.actions import Action, Refuse, Send
from turnstream.simulator.faults import DEFAULT_AFTER, MALFORMED, final_action, instead_of_answer, spoiled
from turnstream.simulator.script import Script, script_for
from turnstream.wires.base import ModelRequest, Wire

WRITE_SIZE = 64 * 1024
"""Bytes of one write with `batch=0`."""
_ENDLESS_FAULTS = frozenset({"error", "cut", "reset", "silence", "no-end"})

_CACHED_EVENTS = 50_000
_CACHED_STORIES = 4
_stories: dict[tuple[str | int, ...], tuple[bytes, ...]] = {}
"""Encoded stories: load tests ask for the same one again and again."""


def play(request: ModelRequest, wire: Wire) -> Iterator[Action]:
    """The actions that answer `request`. After the last of them the body ends; Cut, Reset, Stall and Hang are last."""
    try:
        script = script_for(request)
    except ProviderError as error:
        status, body = wire.encode_error(error)
        yield Refuse(status, {}, body)
        return
    options = script.options
    instead = instead_of_answer(options, wire)
    if instead is not None:
        yield instead
        return
    writes = _paced(_frames(script, wire), script)
    yield from _recut(writes, options.chunk) if options.chunk else writes
    final = final_action(options, wire)
    if final is not None:
        yield final


def _frames(script: Script, wire: Wire) -> Iterable[bytes]:
    """The body, event by event."""
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
    malformed_at = None
    if options.fault == "malformed":
        malformed_at = DEFAULT_AFTER if options.after is None else options.after
    for number, event in enumerate(spoiled(script.events, options)):
        if number == malformed_at:
            yield MALFORMED
        yield encoder.feed((event,))
    if options.fault not in _ENDLESS_FAULTS:
        yield encoder.close()


def _paced(frames: Iterable[bytes], script: Script) -> Iterator[Send]:
    """Batch frames into writes. What an encoder holds back takes its time all the same."""
    options = script.options
    delay = options.first + (options.seconds if options.fault == "slow-first" else 0.0)
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
        delay += script.pace
    if pending:
        yield Send(delay, b"".join(pending))


def _recut(writes: Iterable[Send], size: int) -> Iterator[Send]:
    """Cut the body every `size` bytes, whatever is there."""
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
