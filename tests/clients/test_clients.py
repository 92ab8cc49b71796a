"""The official clients stream the same answers from our simulator as our decoders, and notice its faults."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.running import accumulate
from turnstream.core.blocks import Block, Message
from turnstream.simulator.playback import play
from turnstream.simulator.server import SimulatorServer
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.recording import decode_pieces

CLIENTS = {
    "openai": "openai-chat",
    "anthropic": "anthropic",
    "ollama": "ollama",
    "boto3": "bedrock",
    "google-genai": "gemini",
}
EVERY_CLIENT = pytest.mark.parametrize("client", CLIENTS)
WEATHER = ToolDefinition(
    "get_weather",
    "The weather somewhere",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
QUESTION = (Message("user", (Block(0, "text", "What is the weather?"),)),)

FAULTS: dict[str, tuple[str | None, ...]] = {
    # the error of each client, in the order of CLIENTS; None: that client takes the answer for whole
    "error-before,status=401": (
        "AuthenticationError",
        "AuthenticationError",
        "ResponseError",
        "UnrecognizedClientException",
        "ClientError",
    ),
    "error-before,status=429,retry-after=1": (
        "RateLimitError",
        "RateLimitError",
        "ResponseError",
        "ThrottlingException",
        "ClientError",
    ),
    "error-before,status=500": (
        "InternalServerError",
        "InternalServerError",
        "ResponseError",
        "InternalServerException",
        "ServerError",
    ),
    "error": ("APIError", "APIStatusError", "ResponseError", "serviceUnavailableException", "ServerError"),
    "cut": (
        "APIConnectionError",
        "RemoteProtocolError",
        "RemoteProtocolError",
        "ProtocolError",
        "RemoteProtocolError",
    ),
    "reset": ("APIConnectionError", "APIConnectionError", "ReadError", "ConnectionClosedError", "ReadError"),
    "reset,after=9": ("APIConnectionError", "ReadError", "ReadError", "ProtocolError", "ReadError"),
    "hang": ("APITimeoutError", "APITimeoutError", "ReadTimeout", "ReadTimeoutError", "ReadTimeout"),
    "silence": ("APITimeoutError", "ReadTimeout", "ReadTimeout", "ReadTimeoutError", "ReadTimeout"),
    "slow-first,seconds=30": (
        "APITimeoutError",
        "ReadTimeout",
        "ReadTimeout",
        "ReadTimeoutError",
        "ReadTimeout",
    ),
    "malformed": (
        "JSONDecodeError",
        "JSONDecodeError",
        "JSONDecodeError",
        "ChecksumMismatch",
        "UnknownApiResponseError",
    ),
    "no-end": (None, None, None, None, None),
    "huge-event,size=1000000": (None, None, None, None, None),
}


def ours(wire_name: str, model: str, *, tools: bool) -> dict[str, Any]:
    """Return our reading of the same answer, in the client's terms."""
    wire = WIRES[wire_name]
    request = ModelRequest(model, QUESTION, tools=(WEATHER,) if tools else (), params={"max_tokens": 64})
    decoded = decode_pieces(wire, (send.data for send in play(request, wire)))
    assert decoded["complete"]
    blocks = decoded["blocks"]

    def said(block_type: str) -> str:
        return "".join(block["text_content"] for block in blocks if block["block_type"] == block_type)

    calls = [block["content"] for block in blocks if block["block_type"] == "tool_use"]
    return {
        "text": said("text"),
        "thinking": said("thinking"),
        "calls": [
            {"id": call["tool_use_id"], "name": call["tool_name"], "input": call["input"]} for call in calls
        ],
        "usage": {name: decoded["usage"][name] for name in ("input_tokens", "output_tokens")},
        "stop_reason": decoded["raw_stop_reason"],
        "error": None,
    }


@EVERY_CLIENT
@pytest.mark.requirement("E1")
@pytest.mark.parametrize(
    "model",
    ["demo", "echo", "thinking", "tools", "agent", "story:events=500"],
)
async def test_the_client_accumulates_what_we_do(simulator: SimulatorServer, client, model):
    name = f"{model}{',' if ':' in model else ':'}pace=0,chunk=11"
    tools = model in {"tools", "agent"}
    theirs = await accumulate(client, simulator.url, name, tools=tools)
    expected = ours(CLIENTS[client], name, tools=tools)
    if client == "ollama":
        expected["calls"] = [{"name": call["name"], "input": call["input"]} for call in expected["calls"]]
    theirs.pop("signature", None)
    assert theirs == expected


@EVERY_CLIENT
@pytest.mark.requirement("P5")
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_the_clients_own_error(simulator: SimulatorServer, client, fault):
    told = await accumulate(client, simulator.url, f"demo:pace=0,fault={fault}", patience=0.5)
    expected = dict(zip(CLIENTS, FAULTS[fault], strict=True))[client]
    assert told["error"] == expected, told


async def test_what_openai_says_of_an_answer_cut_short(simulator: SimulatorServer):
    told = await accumulate("openai", simulator.url, "demo:pace=0,fault=max-tokens,after=20")
    assert told["error"] == "LengthFinishReasonError"
