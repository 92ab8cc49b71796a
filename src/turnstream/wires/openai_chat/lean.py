"""Fast path for plain events whose extra fields change from one event to the next.

`template` reads events that differ only in their text. If a vendor adds token ids, times or counters to each
delta, the bytes around the text change too. A lean reader decodes such an event directly into structs that
accept one text and no other field with an effect. The structs are generated for the fields that the stream's
deltas have had so far (`kept_fields`). A new field, or a value that may have an effect, is refused. A refused
event is decoded in full, and the reader is discarded.

Most events differ only in their deltas. A reader learns the bytes around a delta, and decodes only the delta
if they match. It reads the bytes of the body, because framing costs as much as the rest: a single event takes
as few Python calls as a framed one, and events in a batch take none of their own. A large read of deltas with
five changing fields costs 1.15 times one without them. Decoding whole frames costs 2.0 times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import msgspec

from turnstream.core.sse import ServerSentEvent
from turnstream.core.stream_events import StreamEvent
from turnstream.wires.openai_chat.template import DeltaEvent, OpenTarget
from turnstream.wires.shared.lenient_json import encode_json

_BLANK_LINE = b"\n\n"
_LINE_FEED = 0x0A
_CARRIAGE_RETURN = 0x0D
_FRAME_TRIES = 5
_HITS_OF_A_FRAME = 32
_Decode: TypeAlias = Callable[[bytes], Any]


class _WrittenChoice(msgspec.Struct, gc=False):
    delta: msgspec.Raw


class _WrittenChunk(msgspec.Struct, gc=False):
    choices: tuple[_WrittenChoice]


class Decoders(NamedTuple):
    """Decoders of a plain event, and of its delta alone."""

    event: _Decode
    delta: _Decode


class _Frame(NamedTuple):
    """Bytes before and after a delta, and their total length. All empty if they are not known."""

    before: bytes
    after: bytes
    around: int


_decode_string = msgspec.json.Decoder(str).decode
_decode_written = msgspec.json.Decoder(_WrittenChunk).decode


class LeanReader:
    """Reads plain events of one block.

    Args:
        decoders: Decoders for events with the fields of this stream.
        event: Class of the events for the texts.
        growing: Target of the texts. If it keeps texts, they are arguments of a call.
        payload: An event that the reader accepts.

    Attributes:
        hits: Number of events that were read.
        reads_bytes: True while the bytes around the deltas are known.
    """

    __slots__ = (
        "_around_copies", "_decode", "_decode_delta", "_event", "_frame", "_growing",
        "_large", "_learnt_at", "_line", "_tries", "hits", "reads_bytes",
    )  # fmt: skip

    def __init__(self, decoders: Decoders, event: DeltaEvent, growing: OpenTarget, payload: bytes) -> None:
        self._decode, self._decode_delta = decoders
        self._event = event
        self._growing = growing
        self._tries = _FRAME_TRIES
        self._learnt_at = 0
        self._around_copies: list[bytes] = []
        self.hits = 0
        self._learn_frame(payload, 0)

    def read(self, frames: Sequence[ServerSentEvent], position: int, events: list[StreamEvent]) -> int:
        """Append the events of plain `frames` from `position` on. Return the position of the first other
        frame.

        If an event differs from the last only in its delta, only the delta is decoded.
        """
        decode, (before, after, around), (index, texts) = self._decode_delta, self._frame, self._growing
        event, first, total = self._event, position, len(frames)
        try:
            while position < total:
                name, payload, _ = frames[position]
                delta = payload.removeprefix(before).removesuffix(after)
                if around and len(delta) + around == len(payload):
                    text = decode(delta).text
                else:
                    text = self._decode(payload).choices[0].delta.text
                    if self._tries:
                        before, after, around = self._learn_frame(payload, position - first)
                if name is not None or not text:
                    break
                if texts is not None:
                    text = text[0].function.arguments
                    if not text:
                        break
                    texts.append(text)
                events.append(event(index, text))
                position += 1
        except (ValueError, RecursionError):
            pass  # the full decoder handles the event
        self.hits += position - first
        return position

    def read_bytes(self, data: bytes, events: list[StreamEvent]) -> bytes:
        """Append the events at the beginning of `data`, and return the bytes after them.

        Reads events with the usual framing that differ only in their deltas. `data` must begin at an event
        boundary.
        """
        if len(data) > self._large:
            return self._read_lines(data, events)
        before, after, around = self._line
        delta = data.removeprefix(before).removesuffix(after)
        if _LINE_FEED in delta:
            return self._read_lines(data, events)
        if len(delta) + around != len(data) or _CARRIAGE_RETURN in delta:
            return data
        try:
            text = self._decode_delta(delta).text
            (index, texts) = self._growing
            if texts is not None:
                text = text[0].function.arguments
        except (ValueError, RecursionError):
            return data
        if not text:
            return data
        if texts is not None:
            texts.append(text)
        events.append(self._event(index, text))
        self.hits += 1
        return b""

    def _read_lines(self, data: bytes, events: list[StreamEvent]) -> bytes:
        """Do the same as `read_bytes`, for several events."""
        if _CARRIAGE_RETURN in data:
            return data
        before, after, around = self._line
        begin, end = len(before), len(after) - len(_BLANK_LINE)
        deltas: list[bytes] = []
        place = 0
        while (line_end := data.find(b"\n", place)) >= 0:
            deltas.append(data[place + begin : line_end - end])
            place = line_end + len(_BLANK_LINE)
        if not deltas or b"%b%b%b" % (before, (after + before).join(deltas), after) != data[:place]:
            place = 0
            for position, delta in enumerate(deltas):
                if not data.startswith(b"%b%b%b" % (before, delta, after), place):
                    del deltas[position:]
                    break
                place += around + len(delta)
        (index, kept) = self._growing
        try:
            decode = self._decode_delta
            texts: list[Any] = self._read_copies(deltas) or [decode(delta).text for delta in deltas]
            if kept is not None:
                texts = [fragments[0].function.arguments for fragments in texts]
        except (ValueError, RecursionError):
            return data
        if not all(texts):
            return data
        if kept is not None:
            kept += texts
        elif texts:
            self._around_copies = self._learn_copies(deltas[-1], texts[-1])
        events += map(self._event, repeat(index), texts)
        self.hits += len(texts)
        return data[place:]

    def _read_copies(self, deltas: list[bytes]) -> list[str] | None:
        """Return the texts of deltas that differ only in their text and its copies, or None for others."""
        around = self._around_copies
        texts: list[str] = []
        begin = len(around[0]) if around else 0
        for delta in deltas if around else ():
            string = delta[begin : delta.find(around[1], begin)]
            if string.join(around) != delta:
                return None
            texts.append(_decode_string(string))
        return texts

    def _learn_copies(self, delta: bytes, text: str) -> list[bytes]:
        """Return the bytes around the copies of a delta's text. Empty if there are none.

        LiteLLM repeats thinking in up to three other fields. Comparing bytes costs half of decoding them.
        """
        string, other = encode_json(text), "another" if text != "another" else "other"
        around = delta.split(string)
        if len(around) < 3:
            return []
        try:
            probe = self._decode_delta(encode_json(other).join(around)).text
        except ValueError:
            return []
        return around if probe == other else []

    def _learn_frame(self, payload: bytes, read: int) -> _Frame:
        """Learn the bytes around the delta of a plain event. `read` counts events that are not yet in `hits`.

        Each frame that is hardly used costs a try. After the last try the reader decodes whole events.
        """
        hits = self.hits + read
        self._tries = self._tries - 1 if hits < self._learnt_at + _HITS_OF_A_FRAME else _FRAME_TRIES
        self._learnt_at = hits
        delta = bytes(_decode_written(payload).choices[0].delta)
        self.reads_bytes = self._tries > 0 and payload.count(delta) == 1 and _LINE_FEED not in payload
        before, _, after = payload.partition(delta) if self.reads_bytes else (b"", b"", b"")
        self._frame = _Frame(before, after, len(before) + len(after))
        before, after = b"data: " + before, after + _BLANK_LINE
        self._line = _Frame(before, after, len(before) + len(after))
        self._large = 2 * len(payload)
        return self._frame
