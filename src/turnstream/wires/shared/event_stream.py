"""application/vnd.amazon.eventstream, both ways: bytes into messages and messages into bytes.

A message is its length, the length of its headers, a CRC of these two, headers, a payload, and a CRC of all of it. Where
one ends follows from these twelve bytes, and botocore's own parser reads the rest and checks both CRCs. It is given a
message at a time: what it says of one cannot then depend on how the bytes were cut, and a long one is not copied anew
for every read. Its own limits are 24 MiB of payload and 128 KiB of headers; `event_limit` may be lower, not higher.
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
    """One message is damaged, but where it ended is known: the next can be read."""


class MessageDecoder:
    """Cuts one response body into messages. `limit`: the bytes that one may have, everything counted.

    Raises ConfigurationError where botocore is not installed.
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
        """True if a message has begun that is not whole."""
        return bool(self._rest)

    def add(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self._failure is None:
            self._rest += data

    def take(self) -> Message | None:
        """The next whole message, or None until more bytes come.

        Raises BrokenMessage for one that is damaged, after which the next may be taken; MalformedEvent or
        EventTooLarge, now and ever after, where nothing more can be read.
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
        """Learn the size of the next message. Raises MalformedEvent or EventTooLarge."""
        size, headers = _lengths.unpack_from(prelude)
        parser = self._new_parser()
        parser.add_data(prelude)
        try:
            parser.next()
        except StopIteration:
            pass  # the prelude is sound, and more bytes are to come
        except self._too_large as error:
            self._fail(EventTooLarge(str(error), retryable=False))
        except self._damage as error:
            self._fail(MalformedEvent(f"the provider's stream is no event stream: {error}"))
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
    """One message. Each header's value is a string, as Bedrock's are."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    lengths = _lengths.pack(_PRELUDE + len(head) + len(payload) + _CHECKSUM, len(head))
    message = lengths + _number.pack(crc32(lengths)) + head + payload
    return message + _number.pack(crc32(message))


def encode_event(event_type: str, payload: bytes) -> bytes:
    """The message of one event, whose payload is JSON."""
    return encode_message(
        {":event-type": event_type, ":content-type": "application/json", ":message-type": "event"}, payload
    )


def encode_exception(exception_type: str, payload: bytes) -> bytes:
    """The message with which a stream reports a failure."""
    return encode_message(
        {
            ":exception-type": exception_type,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        payload,
    )


def encode_chunk(payload: bytes) -> bytes:
    """The message of one event of InvokeModelWithResponseStream: `payload` is the model's own."""
    return encode_event("chunk", b'{"bytes":"%b"}' % base64.b64encode(payload))


def frame_line(line: bytes) -> bytes:
    """The message of one recorded event: `{"contentBlockDelta": {…}}`, or a model's own, `{"type": …}`."""
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
    """A body cut after each message; what is left where one is not whole is the last piece."""
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
