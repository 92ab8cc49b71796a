"""`turnstream record`: saves the bytes of a provider's answer, for a bug report."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from turnstream.cli.command import Command, add_config
from turnstream.errors import ConfigurationError, ConnectionFailed, InvalidRequest, TooLarge

if TYPE_CHECKING:
    from turnstream.config import Settings
    from turnstream.providers.connection import Connection

LIMIT = 64 * 1024 * 1024
"""Largest answer that can be recorded, in bytes."""
MASK = b"*"
SHORTEST_SECRET = 8
SILENCE = 300.0
"""Seconds without a byte after which an answer counts as incomplete."""
CONNECT_SECONDS = 10.0


class Recording(NamedTuple):
    """A recorded answer. `broken`: the reason why it is incomplete. None: it is complete."""

    status: int
    content_type: str
    body: bytes
    broken: str | None = None


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="MODEL|URL", help="`provider/model`, or the full URL of an endpoint"
    )
    parser.add_argument(
        "prompt", nargs="?", help="the prompt; for a URL, the request's body (default: standard input)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="file to write; compressed if it ends in .gz"
    )
    parser.add_argument("-s", "--system", metavar="TEXT", help="with a model: the system prompt")
    parser.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="NAME: VALUE",
        help="with a URL: a header of the request; if the answer repeats its value, the file masks it",
    )
    add_config(parser)


def run(arguments: Namespace) -> int:
    import asyncio
    import gzip
    import os

    from turnstream.access import secrets_of
    from turnstream.config import load_settings

    settings = load_settings(arguments.config)
    text = sys.stdin.read() if arguments.prompt in (None, "-") else arguments.prompt
    if not text.strip():
        raise InvalidRequest(
            "the prompt is missing: give a prompt, or the body of the request on standard input"
        )
    headers = dict(_header(line) for line in arguments.header)
    words = (word for value in headers.values() for word in (value, *value.split()))
    secrets = {*secrets_of(settings, os.environ), *words}
    if arguments.source.startswith(("http://", "https://")):
        recording = asyncio.run(_record_url(arguments.source, text, headers))
        wire = "WIRE"
    else:
        wire, recording = asyncio.run(_record_model(settings, arguments.source, text, arguments.system))
    body = masked(recording.body, secrets)
    output = Path(arguments.output)
    try:
        output.write_bytes(gzip.compress(body) if output.suffix == ".gz" else body)
    except OSError as error:
        raise InvalidRequest(
            f"{output} cannot be written ({error.strerror}): give a path in a writable folder"
        ) from error
    print(f"{len(body):,} bytes of {recording.content_type} (status {recording.status}) in {output}")
    if body != recording.body:
        print("keys in it were masked")
    if recording.broken is not None:
        print(f"it is not whole: {recording.broken}")
    print(f"read it with: turnstream decode --wire {wire} {output}")
    return 0


async def _record_model(
    settings: Settings, name: str, text: str, system: str | None
) -> tuple[str, Recording]:
    from turnstream.core.blocks import Block, Message
    from turnstream.providers.catalog import Catalog
    from turnstream.providers.http import HttpProvider
    from turnstream.simulator.registration import SIMULATOR
    from turnstream.wires.base import ModelRequest

    catalog = Catalog(settings.providers, in_process=SIMULATOR)
    try:
        provider, model = catalog.resolve(name)
        if not isinstance(provider, HttpProvider):
            raise ConfigurationError(
                f"{name} answers in this process, and sends no bytes: start `turnstream simulate`, and "
                "record its URL"
            )
        request = ModelRequest(model, (Message("user", (Block(0, "text", text),)),), system)
        return provider.wire.name, await _read(provider.send(provider.wire.encode_request(request)))
    finally:
        await catalog.close()


async def _record_url(address: str, body: str, headers: Mapping[str, str]) -> Recording:
    from multidict import CIMultiDict
    from yarl import URL

    from turnstream.providers.connecting import ConnectionPool

    url = URL(address)
    fields = CIMultiDict({"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"})
    fields.update(headers)
    pool = ConnectionPool(address, url, connect_seconds=CONNECT_SECONDS, trust_env=True)
    try:
        return await _read(pool.ask("POST", url, fields, body.encode()))
    finally:
        pool.close()


async def _read(asking: Awaitable[Connection]) -> Recording:
    """Read an answer until its end or its failure."""
    import asyncio

    from turnstream.providers.connection import BadAnswer

    body = bytearray()
    broken: str | None = None
    try:
        async with asyncio.timeout(SILENCE):
            connection = await asking
    except (BadAnswer, OSError) as error:
        raise ConnectionFailed(
            f"no answer arrived ({error or type(error).__name__}): check the URL, and that its server runs"
        ) from error
    try:
        while data := await asyncio.wait_for(connection.read(), SILENCE):
            body += data
            if len(body) > LIMIT:
                raise TooLarge(f"the answer is larger than {LIMIT:,} bytes: ask for a shorter one")
    except (BadAnswer, OSError) as error:
        broken = str(error) or type(error).__name__
    return Recording(connection.status, connection.content_type, bytes(body), broken)


def masked(body: bytes, secrets: Iterable[str]) -> bytes:
    """Return the body with asterisks in place of each secret. The length of the body does not change."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            body = body.replace(secret.encode(), MASK * len(secret.encode()))
    return body


def _header(line: str) -> tuple[str, str]:
    name, separator, value = line.partition(":")
    if not (separator and name.strip()):
        raise InvalidRequest(f"{line!r} is not a header: write it as 'name: value'")
    return name.strip(), value.strip()


COMMAND = Command(
    "record",
    "keep a provider's answer byte for byte, for a bug report",
    """\
turnstream record anthropic/claude-sonnet-4-5 "Why is the sky blue?" -o answer.sse
cat request.json | turnstream record http://127.0.0.1:11434/api/chat -o answer.ndjson
turnstream record https://api.example.com/v1/chat/completions '{"model": "m", "messages": []}' \
-H "Authorization: Bearer $KEY" -o answer.sse.gz""",
    add_arguments,
    run,
)
