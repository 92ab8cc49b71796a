"""`turnstream decode`: prints a recorded provider stream as one JSON object."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnstream.cli.command import Command
from turnstream.errors import InvalidRequest

if TYPE_CHECKING:
    from turnstream.wires.base import Wire

_GZIP = b"\x1f\x8b"
_UNREADABLE = frozenset({"stream_incomplete", "malformed_event", "event_too_large"})
"""Error codes of a decoder for bytes that are not of its wire."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--wire",
        required=True,
        type=_wire,
        metavar="WIRE",
        help="the protocol that was recorded: anthropic, openai-chat, openai-responses, ollama, gemini "
        "or bedrock",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="the body of the response, or a .jsonl file with the JSON of one event per line; either may end "
        "in .gz; - reads standard input",
    )
    parser.add_argument("--compact", action="store_true", help="print the object on one line")


def _wire(name: str) -> Wire:
    from turnstream.wires import WIRES

    if name not in WIRES:
        raise ArgumentTypeError(f"no wire {name!r}; choose one of {', '.join(WIRES)}")
    return WIRES[name]


def run(arguments: Namespace) -> int:
    """Print the decoded recording, and return 0 if anything of that wire was found, complete or not.

    The object's fields `complete` and `error` show how far the recording could be decoded.
    """
    from turnstream.wires.recording import decode_recording

    wire: Wire = arguments.wire
    name, data = _read(arguments.file)
    decoded = decode_recording(wire, data, file_name=name)
    indent = None if arguments.compact else 2
    separators = (",", ":") if arguments.compact else None
    text = json.dumps(decoded, ensure_ascii=False, indent=indent, separators=separators)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass") + b"\n")
    sys.stdout.buffer.flush()
    if data.strip() and not _recognised(decoded):
        raise InvalidRequest(
            f"{arguments.file} is not a recording of the wire {wire.name}: give another --wire"
        )
    return 0


def _recognised(decoded: Mapping[str, Any]) -> bool:
    """Return True if the stream contains anything of the wire: a message, or the provider's error."""
    error = decoded["error"]
    return any(decoded[name] for name in ("id", "model", "blocks", "raw_stop_reason")) or (
        error is not None and error["code"] not in _UNREADABLE
    )


def _read(file: str) -> tuple[str, bytes]:
    """Return a file's name and content. The name of standard input follows from its content."""
    if file == "-":
        data = sys.stdin.buffer.read()
        return _name_for(data), data
    try:
        return file, Path(file).read_bytes()
    except OSError as error:
        raise InvalidRequest(
            f"{file} cannot be read ({error.strerror}): give a file that exists and is readable"
        ) from error


def _name_for(data: bytes) -> str:
    if data.startswith(_GZIP):
        return "standard input.gz"
    try:
        json.loads(data.lstrip().partition(b"\n")[0])
    except ValueError:
        return "standard input"
    return "standard input.jsonl"


COMMAND = Command(
    "decode",
    "decode a recorded provider stream into JSON",
    """\
turnstream decode --wire anthropic answer.sse
turnstream decode --wire openai-chat chunks.jsonl.gz --compact
curl -sN https://api.anthropic.com/v1/messages … | turnstream decode --wire anthropic -""",
    add_arguments,
    run,
)
