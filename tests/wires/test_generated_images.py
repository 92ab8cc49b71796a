"""Images from a model go back to it, and items keep the fields that their API requires."""

from __future__ import annotations

import json
from typing import Any

import pytest

import turnstream as ts
from tests.providers.conftest import Exchange, RawServer, raw_server
from turnstream.core.blocks import Block, Message
from turnstream.core.history import PastTurn, build_history
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

__all__ = ["raw_server"]

pytestmark = pytest.mark.fault(30)

PNG = "iVBORw0KGgo="
WEBP = "UklGRg=="


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def gemini_answer(*parts: dict[str, Any]) -> bytes:
    content = {"role": "model", "parts": list(parts)}
    return sse({"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "responseId": "r"})


def responses_answer(*items: dict[str, Any]) -> bytes:
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": "resp_1", "output": []}}]
    for place, item in enumerate(items):
        begun = {key: value for key, value in item.items() if key not in ("result", "outputs", "results")}
        events.append({"type": "response.output_item.added", "output_index": place, "item": begun})
        events.append({"type": "response.output_item.done", "output_index": place, "item": item})
    whole = {"id": "resp_1", "status": "completed", "output": list(items)}
    events.append({"type": "response.completed", "response": whole})
    return sse(*({**event, "sequence_number": n} for n, event in enumerate(events)))


class Models:
    """Two providers at one server. Each answers with its given bytes. `asked` holds the request bodies."""

    def __init__(self, server: RawServer, answers: list[bytes]) -> None:
        self.asked: list[dict[str, Any]] = []

        async def answer(exchange: Exchange) -> None:
            self.asked.append(json.loads(exchange.body))
            body = answers[min(len(self.asked), len(answers)) - 1]
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(
                body
            )
            await exchange.send(head + body)

        server.answer = answer
        self._url = server.url

    def llm(self, wire: str, model: str, provider: str = "mine") -> ts.LLM:
        one = {"wire": wire, "base_url": self._url}
        return ts.LLM(
            f"{provider}/{model}",
            providers={provider: one},
            retry=ts.RetrySettings(attempts=1),
            settings=ts.Settings(),
        )


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemini-3-pro-image"])
async def test_gemini_gets_its_image_back_with_its_signature(raw_server: RawServer, model: str) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": PNG}, "thoughtSignature": "c2ln"}
    models = Models(raw_server, [gemini_answer({"text": "Here."}, image)])
    llm = models.llm("gemini", model)
    message = await llm.collect("Draw a cat.")
    await llm.collect("Make it blue.", messages=[{"role": "user", "content": "Draw a cat."}, message])
    said, answered, _ = models.asked[1]["contents"]
    assert (said["role"], answered["role"]) == ("user", "model")
    assert answered["parts"] == [{"text": "Here."}, image]


async def test_an_image_without_words_is_an_answer(raw_server: RawServer) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    models = Models(raw_server, [gemini_answer(image)])
    llm = models.llm("gemini", "gemini-2.5-flash-image")
    message = await llm.collect("Draw a cat.")
    await llm.collect("Make it blue.", messages=[{"role": "user", "content": "Draw a cat."}, message])
    assert [content["role"] for content in models.asked[1]["contents"]] == ["user", "model", "user"]
    assert models.asked[1]["contents"][1]["parts"] == [image]


async def test_another_model_s_image_goes_to_gemini_without_its_signature(raw_server: RawServer) -> None:
    item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PNG}
    models = Models(raw_server, [responses_answer(item), gemini_answer({"text": "Blue."})])
    message = await models.llm("openai-responses", "gpt-6", "one").collect("Draw a cat.")
    said = [{"role": "user", "content": "Draw a cat."}, message]
    await models.llm("gemini", "gemini-3-pro-image", "two").collect("Make it blue.", messages=said)
    (part,) = models.asked[1]["contents"][1]["parts"]
    assert part == {
        "inlineData": {"mimeType": "image/png", "data": PNG},
        "thoughtSignature": "skip_thought_signature_validator",
    }


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
IMAGE = {
    "type": "image_generation_call",
    "id": "ig_1",
    "status": "completed",
    "result": WEBP,
    "output_format": "webp",
    "revised_prompt": "a cat",
}


@pytest.mark.parametrize("status", ["completed", "generating"])
async def test_responses_gets_its_image_back_after_its_reasoning(raw_server: RawServer, status: str) -> None:
    models = Models(raw_server, [responses_answer(REASONING, {**IMAGE, "status": status})])
    llm = models.llm("openai-responses", "gpt-6")
    message = await llm.collect("Draw a cat.")
    assert [block.block_type for block in message.blocks] == ["thinking", "image"]
    await llm.collect("Make it blue.", messages=[{"role": "user", "content": "Draw a cat."}, message])
    assert models.asked[1]["input"] == [
        {"role": "user", "content": "Draw a cat."},
        REASONING,
        IMAGE,
        {"role": "user", "content": "Make it blue."},
    ]


ITEMS: list[dict[str, Any]] = [
    {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1+1", "container_id": "c", "outputs": []},
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"], "results": []},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PNG},
    {"type": "image_generation_call", "id": "ig_2", "status": "incomplete", "result": PNG},
    {"type": "mcp_call", "id": "m_1", "name": "n", "arguments": "{}", "server_label": "s", "output": "o", "error": None},
]  # fmt: skip
REQUIRED = {
    "code_interpreter_call": {"id", "code", "container_id", "outputs", "status"},
    "file_search_call": {"id", "queries", "status"},
    "web_search_call": {"id", "action", "status"},
    "image_generation_call": {"id", "result", "status"},
    "mcp_call": {"id", "arguments", "name", "server_label"},
    "reasoning": {"id", "summary"},
    "message": {"id", "content", "role", "status"},
}


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item['type']}-{item['id']}")
async def test_items_go_back_with_what_their_api_requires(
    raw_server: RawServer, item: dict[str, Any]
) -> None:
    text = {"type": "output_text", "text": "Done.", "annotations": []}
    message = {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [text],
    }
    models = Models(raw_server, [responses_answer(REASONING, item, message)])
    llm = models.llm("openai-responses", "gpt-6")
    answer = await llm.collect("go")
    await llm.collect("on", messages=[{"role": "user", "content": "go"}, answer])
    sent = [one for one in models.asked[1]["input"] if one.get("type") is not None]
    assert [one["type"] for one in sent] == ["reasoning", item["type"], "message"]
    for one in sent:
        assert one.keys() >= REQUIRED[one["type"]], one
    assert sent[1].get("status") == item.get("status")


IMAGES = (Block(0, "image", None, {"media_type": "image/png", "data": PNG}),)


@pytest.mark.parametrize("wire", ["anthropic", "bedrock", "openai-chat", "openai-responses", "ollama"])
@pytest.mark.parametrize("alone", [True, False])
def test_where_the_assistant_shows_no_images_the_rest_of_the_answer_goes(wire: str, alone: bool) -> None:
    blocks = IMAGES if alone else (*IMAGES, Block(1, "text", "Here."))
    turns = [
        PastTurn("user", "complete", (Block(0, "text", "Draw."),)),
        PastTurn("assistant", "complete", blocks),
        PastTurn("user", "complete", (Block(0, "text", "Blue."),)),
    ]
    body = WIRES[wire].encode_request(ModelRequest("m", build_history(turns))).body.decode()
    assert PNG not in body
    assert ("Here." in body) is not alone
    assert body.index("Draw.") < body.index("Blue.")


def test_an_image_that_was_cut_off_does_not_go_back() -> None:
    torn = Block(0, "image", None, {"media_type": "image/png", "data": PNG}, partial=True)
    turns = [PastTurn("user", "complete", (Block(0, "text", "a"),)), PastTurn("assistant", "error", (torn,))]
    assert build_history(turns) == (Message("user", (Block(0, "text", "a"),)),)
