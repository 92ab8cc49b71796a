"""Decodes a recorded answer and folds it into one JSON object: the pure part of `turnstream decode`."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from turnstream.core.answers import Answer, AnswerFold
from turnstream.core.blocks import Block
from turnstream.errors import InvalidRequest, ProviderError
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Wire, rest_of
from turnstream.wires.shared import event_stream
from turnstream.wires.shared.plain_answer import PlainAnswerDecoder


def decode_recording(wire: Wire, data: bytes, *, file_name: str) -> dict[str, Any]:
    """Decode a recorded answer into one object. Errors of the stream are part of it.

    Args:
        wire: Protocol of the recording.
        data: Content of the file.
        file_name: Name of the file. Its extension is the format of `data`. See `recorded_body`.

    Returns the object that `decode_pieces` describes. Raises InvalidRequest for a broken archive.
    """
    return decode_pieces(wire, (recorded_body(wire, data, file_name=file_name),))


def recorded_body(wire: Wire, data: bytes, *, file_name: str) -> bytes:
    """Return the response body in a recording.

    Args:
        wire: Protocol of the recording, which frames the lines of a `.jsonl` file.
        data: Content of the file.
        file_name: Name of the file. `.gz` is unpacked first. In a `.jsonl` file each line is the JSON of one
            event. Other files hold the body itself.

    Raises InvalidRequest for a broken archive.
    """
    name = file_name.lower()
    if name.endswith(".gz"):
        name = name.removesuffix(".gz")
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidRequest(f"{file_name} is not a complete gzip file: {error}") from error
    if name.endswith(".jsonl"):
        return b"".join(frame_line(wire, line) for line in data.split(b"\n") if line.strip())
    return data


def frame_line(wire: Wire, line: bytes) -> bytes:
    """Return the JSON of one event in the wire's framing."""
    line = line.strip()
    if wire.content_type == event_stream.CONTENT_TYPE:
        return event_stream.frame_line(line)
    return line + b"\n" if wire.content_type == "application/x-ndjson" else b"data: " + line + b"\n\n"


def decode_pieces(wire: Wire, pieces: Iterable[bytes]) -> dict[str, Any]:
    """Decode one answer from its bytes, split at any places.

    Returns `{wire, id, model, blocks: [{sequence, block_type, text_content, content}], stop_reason,
    raw_stop_reason, usage, raw_usage, complete, error: {code, message} | None, events}`. `complete` is true
    if the end marker arrived without an error. Blocks that were cut off are included as far as they were
    read. `events` is the number of StreamEvents.
    """
    fold, error = fold_pieces(wire, pieces)
    return _describe(wire, fold.finish(), fold.events, error)


def fold_pieces(wire: Wire, pieces: Iterable[bytes]) -> tuple[AnswerFold, ProviderError | None]:
    """Decode and fold one answer. Return the fold, and the error that ended the answer, or None."""
    fold = AnswerFold()
    decoder = PlainAnswerDecoder(wire, DEFAULT_EVENT_LIMIT)  # decodes streamed answers too
    try:
        for piece in pieces:
            fold.add(decoder.feed(piece))
        events, incomplete = rest_of(decoder)
        fold.add(events)
    except ProviderError as error:
        return fold, error
    return fold, incomplete


def _describe(wire: Wire, answer: Answer, events: int, error: ProviderError | None) -> dict[str, Any]:
    stop = answer.stop
    failure: dict[str, str] | None = None
    if answer.error is not None:
        failure = {"code": answer.error.code, "message": answer.error.message}
    elif error is not None:
        failure = {"code": error.code, "message": error.message}
    return {
        "wire": wire.name,
        "id": answer.id,
        "model": answer.model,
        "blocks": [_describe_block(block) for block in answer.blocks],
        "stop_reason": stop.stop_reason if stop else None,
        "raw_stop_reason": stop.raw_stop_reason if stop else None,
        "usage": msgspec.structs.asdict(answer.usage),
        "raw_usage": answer.raw_usage,
        "complete": stop is not None and failure is None,
        "error": failure,
        "events": events,
    }


def _describe_block(block: Block) -> dict[str, Any]:
    return {
        "sequence": block.sequence,
        "block_type": block.block_type,
        "text_content": block.text_content,
        "content": block.content,
    }
