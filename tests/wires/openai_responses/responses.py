"""Streams of the Responses API, as the API writes them."""

from __future__ import annotations

import json
from typing import Any

from turnstream.core import stream_events as say
from turnstream.core.blocks import Content
from turnstream.wires.openai_responses.wire import WIRE

RESPONSE = {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "in_progress", "output": []}


def frames(*events: dict[str, Any], created: bool = True) -> bytes:
    """Return a body of events. `response.created` comes first unless an argument says otherwise."""
    begin = [{"type": "response.created", "response": RESPONSE}] if created else []
    told = [{"sequence_number": n, **event} for n, event in enumerate([*begin, *events])]
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in told
    )


def end(status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": {**RESPONSE, "status": status, **fields}}


def decode(body: bytes, **options: Any) -> list[say.StreamEvent]:
    decoder = WIRE.decoder(**options)
    return decoder.feed(body) + decoder.close()


def marked(kind: str, **kept: Any) -> Content:
    return {"provider_metadata": {"responses": {"type": kind, **kept}}}
