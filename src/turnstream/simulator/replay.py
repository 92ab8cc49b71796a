"""A recorded answer, played event by event, with the simulator's pace, cuts and faults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from turnstream.core.stream_events import MessageStart
from turnstream.errors import ConfigurationError, StreamBroken
from turnstream.simulator.faults import DEFAULT_AFTER, inserted, reported_error
from turnstream.simulator.options import REPLAY, SimulatorOptions
from turnstream.wires import WIRES, usable_wires
from turnstream.wires.base import Wire
from turnstream.wires.gemini.framing import split_elements
from turnstream.wires.recording import decode_recording, recorded_body
from turnstream.wires.shared import event_stream

_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2,}")
_LINE_END = re.compile(rb"\n")


class Replay:
    """One recorded body of one wire. `options` are the defaults of its requests."""

    def __init__(self, wire: Wire, body: bytes, options: SimulatorOptions | None = None) -> None:
        self.wire = wire
        self.body = body
        self.options = options or SimulatorOptions()
        self._frames = split_events(wire, body)

    def __len__(self) -> int:
        """Return the number of events, as the wire frames them."""
        return len(self._frames)

    def frames(self, options: SimulatorOptions) -> Iterator[bytes]:
        """Return the events of the body up to the fault in `options`. Without one: the exact body.

        `after` counts the events of the wire.
        """
        after = DEFAULT_AFTER if options.after is None else options.after
        match options.fault:
            case "cut" | "reset" | "silence":
                return islice(iter(self._frames), after)
            case "error":
                return chain(islice(self._frames, after), (self._error_frame(options),))
            case "no-end":
                return islice(iter(self._frames), self._events_before_the_end())
            case _:
                foreign = inserted(options, self.wire) or ()
                return chain(islice(self._frames, after), foreign, islice(self._frames, after, None))

    def _error_frame(self, options: SimulatorOptions) -> bytes:
        """Return the event of the error alone, as the message has already begun."""
        encoder = self.wire.encoder(model=REPLAY, message_id=REPLAY)
        begun = encoder.feed((MessageStart(REPLAY, REPLAY), reported_error(options)))
        return split_events(self.wire, begun)[-1]

    def _events_before_the_end(self) -> int:
        """Return the number of events before the one that completes the body."""
        # Once a body is complete, it stays complete with more events, so a binary search works.
        low, high = 0, len(self._frames)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (low, middle - 1) if _is_whole(self.wire, self._frames[:middle]) else (middle, high)
        return low


def split_events(wire: Wire, body: bytes) -> tuple[bytes, ...]:
    """Return the events of a body, with any line ends. Joined, they are the body."""
    if wire.name == "gemini" and body.lstrip().startswith(b"["):
        return split_elements(body)
    if wire.content_type == event_stream.CONTENT_TYPE:
        return tuple(event_stream.split_messages(body))
    end = _LINE_END if wire.content_type == "application/x-ndjson" else _EVENT_END
    pieces: list[bytes] = []
    start = 0
    for match in end.finditer(body):
        pieces.append(body[start : match.end()])
        start = match.end()
    if start < len(body):
        pieces.append(body[start:])
    return tuple(pieces)


def load_replay(file_name: str, data: bytes, wire: Wire | None, options: SimulatorOptions) -> Replay:
    """Return the replay of a recording.

    Args:
        file_name: Name of the file. `.jsonl` holds the JSON of one event per line, other names hold a body;
            `.gz` is either, compressed. `turnstream decode` reads the same.
        data: Content of the file.
        wire: Wire of the recording. None: the one that decodes most of it.
        options: Defaults of its requests.

    Raises InvalidRequest if the archive is broken, ConfigurationError if no wire can decode the body.
    """
    wire = wire or guess_wire(file_name, data)
    data = recorded_body(wire, data, file_name=file_name)
    if not data:
        raise ConfigurationError(f"{file_name} is empty: it has no events to replay")
    return Replay(wire, data, options)


def guess_wire(file_name: str, data: bytes) -> Wire:
    """Return the wire that decodes most of a recording.

    Raises InvalidRequest if the archive is broken, ConfigurationError if no wire can decode it.
    """
    best: tuple[tuple[bool, int, int], Wire] | None = None
    for wire in usable_wires():
        told = decode_recording(wire, data, file_name=file_name)
        known = sum(1 for name in ("id", "model", "raw_stop_reason") if told[name])
        rank = (told["complete"], len(told["blocks"]), known)
        if any(rank) and (best is None or rank > best[0]):
            best = rank, wire
    if best is None:
        raise ConfigurationError(
            f"{file_name} does not fit any of the wires {', '.join(WIRES)}: choose one with --wire"
        )
    return best[1]


def _is_whole(wire: Wire, frames: Sequence[bytes]) -> bool:
    decoder = wire.decoder()
    try:
        for frame in frames:
            decoder.feed(frame)
        decoder.close()
    except StreamBroken:
        return False
    return True
