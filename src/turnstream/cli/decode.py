"""`turnstream decode`: a recorded provider stream as one JSON object."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from turnstream.cli.command import Command
from turnstream.errors import InvalidRequest

_GZIP = b"\x1f\x8b"


def add_arguments(parser: ArgumentParser) -> None:
    from turnstream.wires import WIRES

    parser.add_argument("--wire", required=True, choices=sorted(WIRES), help="the protocol that was recorded")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="the response's body; also .jsonl (an event's JSON per line), .gz of either; - reads standard input",
    )
    parser.add_argument("--compact", action="store_true", help="print the object on one line")


def run(arguments: Namespace) -> int:
    """0 as soon as something of that wire was found, whole or not: the object's `complete` and `error` tell how far."""
    from turnstream.wires import WIRES
    from turnstream.wires.recording import decode_recording

    name, data = _read(arguments.file)
    decoded = decode_recording(WIRES[arguments.wire], data, file_name=name)
    indent = None if arguments.compact else 2
    separators = (",", ":") if arguments.compact else None
    text = json.dumps(decoded, ensure_ascii=False, indent=indent, separators=separators)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass") + b"\n")
    sys.stdout.buffer.flush()
    if data.strip() and not decoded["events"]:
        error = decoded["error"] or {"message": "it holds no event"}
        raise InvalidRequest(
            f"{arguments.file} is no recording of the wire {arguments.wire}: {error['message']}"
        )
    return 0


def _read(file: str) -> tuple[str, bytes]:
    """A file's name and content; standard input gets the name that its content calls for."""
    if file == "-":
        data = sys.stdin.buffer.read()
        return _name_for(data), data
    try:
        return file, Path(file).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from error


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
    "decode a recorded provider stream and print its blocks, usage and end as JSON",
    """\
turnstream decode --wire anthropic answer.sse
turnstream decode --wire openai-chat chunks.jsonl.gz --compact
curl -sN https://api.anthropic.com/v1/messages … | turnstream decode --wire anthropic -""",
    add_arguments,
    run,
)
