"""Images and documents in a turn: the accepted types, the stored blocks, the model's later requests, and
refusals."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.server.live import Client, Watcher, serving
from turnstream.config import ProviderSettings
from turnstream.engine import Engine
from turnstream.errors import InvalidRequest
from turnstream.server.attachments.checks import check_attachment
from turnstream.simulator.server import SimulatorServer

PDF = base64.b64encode(b"%PDF-1.7").decode()
PNG = base64.b64encode(b"\x89PNG").decode()


@pytest.mark.requirement("K4")
@pytest.mark.parametrize(
    ("block_type", "content"),
    [
        ("image", {"media_type": "image/png", "data": PNG}),
        ("image", {"url": "https://example.org/a.png"}),
        ("image", {"url": f"data:image/png;base64,{PNG}"}),
        ("document", {"media_type": "application/pdf", "data": PDF, "title": "a.pdf"}),
        ("document", {"media_type": "text/markdown", "data": PDF}),
        ("document", {"url": "https://example.org/a.pdf", "media_type": "application/pdf"}),
        ("document", {"text": "so it says", "title": ""}),
    ],
)
def test_what_is_taken(block_type, content):
    check_attachment("turn_blocks[0]", block_type, content)


@pytest.mark.requirement("K4")
@pytest.mark.parametrize(
    ("block_type", "content", "said"),
    [
        ("image", {}, "an image needs content"),
        ("image", {"data": PNG}, "an image needs content"),
        ("image", {"media_type": "image/png", "data": PNG, "url": "https://example.org"}, "an image needs content"),
        ("image", {"url": 3}, "an image needs content"),
        ("image", {"media_type": "image/tiff", "data": PNG}, "models do not read the image type 'image/tiff'"),
        ("image", {"media_type": "image/png", "data": "%%%"}, "data is not base64"),
        ("image", {"media_type": "image/png", "data": "é"}, "data is not base64"),
        ("image", {"url": "file:///etc/passwd"}, "url must be http"),
        ("image", {"url": "https://example.org/" + "x" * 9000}, "url must be http"),
        ("image", {"url": "data:text/html;base64,QQ=="}, "url must be http"),
        ("document", {"title": "t"}, "a document needs content"),
        ("document", {"text": " "}, "a document needs content"),
        ("document", {"text": "x", "url": "https://example.org"}, "a document needs content"),
        ("document", {"media_type": "application/msword", "data": PDF}, "models do not read the document type"),
        ("document", {"text": "x", "title": "t" * 501}, "a title is text"),
        ("document", {"text": "x", "title": 5}, "a title is text"),
        ("document", {"url": f"data:application/pdf;base64,{PDF}"}, "url must be http"),
    ],
)  # fmt: skip
def test_what_is_not(block_type, content, said):
    with pytest.raises(InvalidRequest, match=said) as refused:
        check_attachment("turn_blocks[3]", block_type, content)
    assert refused.value.message.startswith("turn_blocks[3]: ")


@pytest.mark.requirement("K4", "F1")
async def test_a_document_reaches_the_model_now_and_in_the_history(tmp_path):
    content = {"media_type": "application/pdf", "data": PDF, "title": "a.pdf"}
    async with SimulatorServer() as provider:
        providers = {
            "here": ProviderSettings(wire="anthropic", base_url=provider.url),
            "chat": ProviderSettings(wire="openai-chat", base_url=f"{provider.url}/v1"),
            "local": ProviderSettings(wire="ollama", base_url=provider.url),
        }
        engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", providers=providers)
        async with serving(engine.application()) as port:
            client = Client(port)
            chat = (await client.call("POST", "/chats")).json["id"]
            turn: str | None = None
            for name in ("here", "chat"):
                blocks: list[Any] = [{"block_type": "text", "text_content": f"Ask {name}."}]
                if turn is None:
                    blocks.insert(0, {"block_type": "document", "content": content})
                body = {"turn_blocks": blocks, "model": f"{name}/echo:pace=0", "prev_turn_id": turn}
                started = (await client.call("POST", f"/chats/{chat}/turns", body)).json
                turn = started["assistant_turn"]["id"]
                await Watcher(client, turn).watch_to_the_end()
                assert (await client.call("GET", f"/turns/{turn}")).json["status"] == "complete"
            kept = (await client.call("GET", f"/turns/{started['user_turn']['prev_turn_id']}")).json
            first = (await client.call("GET", f"/turns/{kept['prev_turn_id']}")).json
            assert first["blocks"][0]["content"] == content
            body = {
                "turn_blocks": [{"block_type": "text", "text_content": "And you?"}],
                "model": "local/echo:pace=0",
                "prev_turn_id": turn,
            }
            refused = (await client.call("POST", f"/chats/{chat}/turns", body)).json["assistant_turn"]["id"]
            await Watcher(client, refused).watch_to_the_end()
            failed = (await client.call("GET", f"/turns/{refused}")).json
            assert (failed["status"], failed["error"]["code"]) == ("error", "invalid_request")
            assert "document's text" in failed["error"]["message"]
        anthropic, openai = (request.body for request in provider.log.newest(9))
        assert b'"type":"document"' in bytes(anthropic).replace(b" ", b"")
        assert b'"type":"file"' in bytes(openai).replace(b" ", b"")
