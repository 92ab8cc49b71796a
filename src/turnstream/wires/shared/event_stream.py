"""Decodes and encodes application/vnd.amazon.eventstream.

A message has a prelude of twelve bytes (its length, the length of its headers, a CRC of both), then headers,
a payload, and a CRC of the message. The prelude tells where the message ends. botocore's parser reads the
rest and checks both CRCs. The parser gets one message at a time: then its errors do not depend on how the
bytes were split, and a long message is not copied at every read. Its own limits are 24 MiB of payload and 128
KiB of headers. `event_limit` can lower them, but not raise them.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from zlib import crc32

import msgspec

from turnstream.errors import EventTooLarge, MalformedEvent
from turnstream.wires.shared.botocore_library import botocore_module

Message: TypeAlias = tuple[dict[str, Any], bytes]
"""Headers by name, and the payload."""

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PRELUDE = 12
_CHECKSUM = 4
_STRING = 7
_lengths = struct.Struct("!II")
_number = struct.Struct("!I")
_short = struct.Struct("!H")


class BrokenMessage(MalformedEvent):
    """A damaged message with a known end. The next message can be read."""


class MessageDecoder:
    """Splits one response body into messages. `limit` is the largest message in bytes, with prelude, headers
    and CRC.

    Raises ConfigurationError if botocore is not installed.
    """

    def __init__(self, *, limit: int) -> None:
        library = botocore_module("botocore.eventstream")
        self._new_parser: Any = library.EventStreamBuffer
        self._too_large: tuple[type[Exception], ...] = (
            library.InvalidHeadersLength,
            library.InvalidPayloadLength,
        )
        self._damage: tuple[type[Exception], ...] = (library.ParserError, struct.error, ValueError, KeyError)
        self._limit = limit
        self._rest = bytearray()
        self._parser: Any = None
        self._size = 0
        self._failure: MalformedEvent | None = None

    @property
    def pending(self) -> bool:
        """True if an incomplete message is buffered."""
        return bool(self._rest)

    def add(self, data: bytes) -> None:
        """Append the next bytes of the body."""
        if self._failure is None:
            self._rest += data

    def take(self) -> Message | None:
        """Return the next whole message, or None if more bytes are needed.

        Raises BrokenMessage for a damaged message. The next call reads the message after it. Raises
        MalformedEvent or EventTooLarge if the rest of the body cannot be read. Every later call raises the
        same.
        """
        if self._failure is not None:
            raise self._failure
        rest = self._rest
        if not self._size:
            if len(rest) < _PRELUDE:
                return None
            self._begin(bytes(rest[:_PRELUDE]))
        if len(rest) < self._size:
            return None
        parser, self._parser = self._parser, None
        parser.add_data(bytes(rest[_PRELUDE : self._size]))
        del rest[: self._size]
        self._size = 0
        try:
            message = parser.next()
        except self._damage as error:
            raise BrokenMessage(f"an event of the provider's stream is damaged: {error}") from error
        return message.headers, message.payload

    def _begin(self, prelude: bytes) -> None:
        """Read the size of the next message from its prelude. Raises MalformedEvent or EventTooLarge."""
        size, headers = _lengths.unpack_from(prelude)
        parser = self._new_parser()
        parser.add_data(prelude)
        try:
            parser.next()
        except StopIteration:
            pass  # the prelude is valid, and the parser waits for more bytes
        except self._too_large as error:
            self._fail(EventTooLarge(str(error), retryable=False))
        except self._damage as error:
            self._fail(MalformedEvent(f"the provider's stream is not an event stream: {error}"))
        if size < _PRELUDE + headers + _CHECKSUM:
            self._fail(MalformedEvent("an event of the provider's stream has an impossible length"))
        if size > self._limit:
            self._fail(EventTooLarge(f"an event has more than {self._limit} bytes", retryable=False))
        self._parser, self._size = parser, size

    def _fail(self, failure: MalformedEvent) -> None:
        self._rest.clear()
        self._failure = failure
        raise failure


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one message. Header values are strings, as in Bedrock's messages."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    lengths = _lengths.pack(_PRELUDE + len(head) + len(payload) + _CHECKSUM, len(head))
    message = lengths + _number.pack(crc32(lengths)) + head + payload
    return message + _number.pack(crc32(message))


def encode_event(event_type: str, payload: bytes) -> bytes:
    """Return the message of one event. `payload` is JSON."""
    return encode_message(
        {":event-type": event_type, ":content-type": "application/json", ":message-type": "event"}, payload
    )


def encode_exception(exception_type: str, payload: bytes) -> bytes:
    """Return the message that reports a failure inside a stream."""
    return encode_message(
        {
            ":exception-type": exception_type,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        payload,
    )


def encode_chunk(payload: bytes) -> bytes:
    """Return the message of one event of InvokeModelWithResponseStream. `payload` is in the model's own
    format."""
    return encode_event("chunk", b'{"bytes":"%b"}' % base64.b64encode(payload))


def frame_line(line: bytes) -> bytes:
    """Return the message of one recorded event: `{"contentBlockDelta": {…}}`, or in a model's own format
    `{"type": …}`."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return encode_event("unknown", line)
    if len(fields) == 1 and "type" not in fields:
        ((name, payload),) = fields.items()
        encode = encode_exception if name.endswith("Exception") else encode_event
        return encode(name[:255], bytes(payload))
    return encode_chunk(line)


def split_messages(body: bytes) -> Iterator[bytes]:
    """Yield the messages of a body. The last piece may be incomplete."""
    start = 0
    while len(body) - start >= _PRELUDE:
        size, _ = _lengths.unpack_from(body, start)
        if size < _PRELUDE + _CHECKSUM or size > len(body) - start:
            break
        yield body[start : start + size]
        start += size
    if start < len(body):
        yield body[start:]


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return bytes((len(key),)) + key + bytes((_STRING,)) + _short.pack(len(text)) + text
