"""Fast path for plain events, which make up nearly all of a stream.

A lean reader decodes such an event directly into structs that accept one text and no other field with an
effect. The structs are generated for the fields that the stream's deltas have had so far (`kept_fields`). A
new field, or a value that may have an effect, is refused. A refused event is decoded in full, and the reader
is discarded.

A provider repeats the same JSON around every token. Most events differ only in one string and, with some
vendors, in padding at the end. A reader learns the bytes around that string, and decodes only the string if
they match. If a vendor adds token ids, times or counters to each delta, it learns the bytes around the delta,
and decodes only the delta. It reads the bytes of the body, because framing costs as much as the rest: a
single event takes as few Python calls as a framed one, and events in a batch take none of their own. A large
read of deltas with five changing fields costs 1.15 times one without them. Decoding whole frames costs 2.0
times.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import msgspec

from turnstream.core.sse import ServerSentEvent
from turnstream.core.stream_events import StreamEvent, TextDelta, ThinkingDelta, ToolInputDelta
from turnstream.wires.shared.lenient_json import encode_json

_BLANK_LINE = b"\n\n"
_LINE_FEED = 0x0A
_CARRIAGE_RETURN = 0x0D
_FRAME_TRIES = 5
_STRING_TRIES = 2
"""Frames around a string that may fail. The first event often has a role along with its text."""
_HITS_OF_A_FRAME = 32
_PADDING = re.compile(rb',"(?:obfuscation|p)":"([A-Za-z0-9]*)"\}\Z')
_PADDED_END = b'"}'
_PADDED_LINE_END = _PADDED_END + _BLANK_LINE
_PADDING_LETTERS = (string.ascii_letters + string.digits).encode()
_Decode: TypeAlias = Callable[[bytes], Any]
DeltaEvent: TypeAlias = type[TextDelta] | type[ThinkingDelta] | type[ToolInputDelta]


class OpenTarget(NamedTuple):
    """Target of plain events: the index of an open block, and its list of texts if they are kept."""

    block_index: int
    texts: list[str] | None = None


class _WrittenChoice(msgspec.Struct, gc=False):
    delta: msgspec.Raw


class _WrittenChunk(msgspec.Struct, gc=False):
    choices: tuple[_WrittenChoice]


class Decoders(NamedTuple):
    """Decoders of a plain event, and of its delta alone."""

    event: _Decode
    delta: _Decode


class _Frame(NamedTuple):
    """The bytes around the part of a plain event that changes. All empty if they are not known.

    Args:
        before: Bytes before the part.
        after: Bytes after the part, without padding at the end.
        around: Their total length.
        is_string: True if the part is the text of the delta, and not the whole delta.
        is_padded: True if padding follows.
    """

    before: bytes
    after: bytes
    around: int
    is_string: bool
    is_padded: bool


_decode_string: _Decode = msgspec.json.Decoder(str).decode
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
        "_around_copies", "_decode", "_decode_delta", "_decode_part", "_event", "_frame",
        "_growing", "_large", "_learnt_at", "_line", "_tries", "hits", "reads_bytes",
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

        If an event differs from the last only in its string or its delta, only that is decoded.
        """
        before, after, around, is_string, is_padded = self._frame
        decode, (index, texts) = self._decode_part, self._growing
        event, first, total = self._event, position, len(frames)
        text: Any
        try:
            while position < total:
                name, payload, _ = frames[position]
                known = _without_padding(payload, after, _PADDED_END) if is_padded else payload
                part = known.removeprefix(before).removesuffix(after)
                if around and len(part) + around == len(known):
                    text = decode(part) if is_string else decode(part).text
                else:
                    text = self._decode(payload).choices[0].delta.text
                    if self._tries and text:
                        self._learn_frame(payload, position - first)
                        before, after, around, is_string, is_padded = self._frame
                        decode = self._decode_part
                if name is not None or not text:
                    break
                if texts is not None:
                    if not isinstance(text, str):
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
        before, after, around, is_string, is_padded = self._line
        known = _without_padding(data, after, _PADDED_LINE_END) if is_padded else data
        delta = known.removeprefix(before).removesuffix(after)
        if _LINE_FEED in delta:
            return self._read_lines(data, events)
        if len(delta) + around != len(known) or _CARRIAGE_RETURN in delta:
            return data
        try:
            text = self._decode_part(delta)
            (index, texts) = self._growing
            if not is_string:
                text = text.text
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
        before, after, around, is_string, is_padded = self._line
        if is_padded or _CARRIAGE_RETURN in data:
            return data
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
            decode = self._decode_part
            texts: list[Any]
            if is_string:
                texts = list(map(decode, deltas))
            else:
                texts = self._read_copies(deltas) or [decode(delta).text for delta in deltas]
                if kept is not None:
                    texts = [fragments[0].function.arguments for fragments in texts]
        except (ValueError, RecursionError):
            return data
        if not all(texts):
            return data
        if kept is not None:
            kept += texts
        elif texts and not is_string:
            around_text = self._learn_around(deltas[-1], texts[-1])
            self._around_copies = around_text if len(around_text) > 2 else []
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

    def _learn_around(self, delta: bytes, text: str) -> list[bytes]:
        """Return the bytes around the copies of a delta's text. Empty if they are not known.

        LiteLLM repeats thinking in up to three other fields. Comparing bytes costs half of decoding them.
        """
        string, other = encode_json(text), "another" if text != "another" else "other"
        around = delta.split(string)
        if len(around) < 2:
            return []
        try:
            probe = self._decode_delta(encode_json(other).join(around)).text
        except ValueError:
            return []
        return around if _text_of(probe) == other else []

    def _learn_frame(self, payload: bytes, read: int) -> None:
        """Learn the bytes around the delta of a plain event. `read` counts events that are not yet in `hits`.

        Each frame that is hardly used costs a try. After the last try the reader decodes whole events.
        """
        hits = self.hits + read
        self._tries = self._tries - 1 if hits < self._learnt_at + _HITS_OF_A_FRAME else _FRAME_TRIES
        self._learnt_at = hits
        delta = bytes(_decode_written(payload).choices[0].delta)
        is_known = self._tries > 0 and payload.count(delta) == 1 and _LINE_FEED not in payload
        before, _, after = payload.partition(delta) if is_known else (b"", b"", b"")
        around: list[bytes] = []
        if is_known and self._tries >= _FRAME_TRIES - _STRING_TRIES:
            around = self._learn_around(delta, _text_of(self._decode_delta(delta).text))
        is_string = len(around) == 2
        if is_string:
            before, after = before + around[0], around[1] + after
        self._decode_part = _decode_string if is_string else self._decode_delta
        if (padding := _PADDING.search(after)) is not None:
            after = after[: padding.start(1)]
        is_padded = padding is not None
        self.reads_bytes = is_known
        self._frame = _Frame(before, after, len(before) + len(after), is_string, is_padded)
        before, after = b"data: " + before, after if is_padded else after + _BLANK_LINE
        self._line = _Frame(before, after, len(before) + len(after), is_string, is_padded)
        self._large = 2 * len(payload)


def _text_of(found: Any) -> str:
    """Return the text of a decoded delta: its string, or the arguments of its fragment."""
    return found if isinstance(found, str) else found[0].function.arguments


def _without_padding(payload: bytes, lead: bytes, end: bytes) -> bytes:
    """Return a payload without the padding between the last `lead` and `end`, or nothing if it has none."""
    start = payload.rfind(lead) + len(lead)
    return payload[:start] if payload[start:].lstrip(_PADDING_LETTERS) == end else b""
