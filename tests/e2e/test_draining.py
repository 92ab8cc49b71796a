"""A server that drains: it cuts clients that reconnect at once. Other clients read until their turn ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.programs import Program, listening
from tests.server.live import Client, read_chunks, read_head

SECONDS = 30.0
SLOW = "sim/story:events=40,pace=0.05"
"""The answer takes two seconds, a tenth of the time in which a server drains."""
QUESTION = {"role": "user", "id": "q", "parts": [{"type": "text", "text": "go"}]}


class Server:
    """`turnstream serve` on a database. Each `Server` on the same folder is the next process."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        url = f"sqlite:///{folder / 'chats.sqlite'}"
        self.program = Program("serve", "--port", "0", "--database-url", url, *arguments, cwd=folder)

    async def __aenter__(self) -> Client:
        await self.program.__aenter__()
        found = re.search(r":(\d+)", await listening(self.program))
        assert found is not None
        return Client(int(found[1]))

    async def __aexit__(self, *error: Any) -> None:
        await self.program.__aexit__(*error)


class Body:
    """Yield the chunks of one answer as they arrive."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], writer: asyncio.StreamWriter) -> None:
        self.text = ""
        self.is_whole = False
        self._chunks = chunks
        self._writer = writer

    @classmethod
    async def of(cls, client: Client, method: str, path: str, body: Any = None) -> Body:
        async with asyncio.timeout(SECONDS):
            reader, writer = await client.open(method, path, body)
            status, headers = await read_head(reader)
        assert status == 200
        return cls(read_chunks(reader, headers), writer)

    async def until(self, text: str) -> None:
        async with asyncio.timeout(SECONDS):
            while text not in self.text:
                self.text += (await anext(self._chunks)).decode()

    async def rest(self) -> str:
        """Read to the end of the body, or to the cut. Return the whole body."""
        try:
            async with asyncio.timeout(SECONDS):
                async for chunk in self._chunks:
                    self.text += chunk.decode()
            self.is_whole = True
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_whole = False
        finally:
            self._writer.close()
        return self.text


def events_of(body: str) -> list[dict[str, Any]]:
    """Return the events of a body, without the end mark and without an incomplete last event."""
    whole = body.rpartition("\n\n")[0]
    lines = [line.removeprefix("data: ") for line in whole.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(
        event["delta"] for event in events if event["type"] in ("text-delta", "TEXT_MESSAGE_CONTENT")
    )


async def stored_text(client: Client, turn_id: str) -> tuple[str, str]:
    turn = (await client.call("GET", f"/turns/{turn_id}")).json
    return turn["status"], "".join(block["text_content"] or "" for block in turn["blocks"])


@pytest.mark.requirement("N3", "P5")
@pytest.mark.parametrize("path", ["/ai-sdk/chat", "/ai-sdk/v6/chat", "/ai-sdk/v7/chat"])
async def test_an_ai_sdk_stream_is_cut_and_the_answer_is_replayed_here_and_by_the_next_server(
    path: str, tmp_path: Path
) -> None:
    first = Server(tmp_path)
    async with first as client:
        cut = await Body.of(client, "POST", path, {"id": "c", "messages": [QUESTION], "model": SLOW})
        await cut.until("text-delta")
        first.program.signal(signal.SIGTERM)
        shown = events_of(await cut.rest())
        assert not cut.is_whole
        assert not {"finish", "error", "abort"} & {event["type"] for event in shown}
        assert shown[-1]["type"] == "data-notice"
        assert shown[-1]["data"]["code"] == "draining"
        turn_id = shown[0]["messageId"]
        assert (await stored_text(client, turn_id))[0] == "streaming"
        again = await Body.of(client, "GET", f"{path}/c/stream")
        replayed = await again.rest()
        assert again.is_whole
        assert (await first.program.ended()).code == 0
    async with Server(tmp_path) as client:
        status, text = await stored_text(client, turn_id)
        assert status == "complete"
        after = await Body.of(client, "GET", f"{path}/c/stream")
        assert text_of(events_of(await after.rest())) == text_of(events_of(replayed)) == text
        assert text.startswith(text_of(shown))
        assert len(text_of(shown)) < len(text)
        for body in (replayed, after.text):
            assert events_of(body)[0]["messageId"] == turn_id
            assert events_of(body)[-1] == {**events_of(body)[-1], "type": "finish", "finishReason": "stop"}
            assert body.endswith("data: [DONE]\n\n")


@pytest.mark.requirement("N3", "P5")
async def test_without_time_to_drain_the_stream_has_its_error(tmp_path: Path) -> None:
    server = Server(tmp_path, "--drain-seconds", "0")
    async with server as client:
        body = await Body.of(
            client, "POST", "/ai-sdk/chat", {"id": "c", "messages": [QUESTION], "model": SLOW}
        )
        await body.until("text-delta")
        server.program.signal(signal.SIGTERM)
        events = events_of(await body.rest())
        assert body.is_whole
        assert events[-2]["messageMetadata"]["errorCode"] == "server_shutdown"
        assert events[-1]["type"] == "error"


@pytest.mark.requirement("N4", "P5")
async def test_a_run_of_ag_ui_hears_of_it_and_reads_to_its_end(tmp_path: Path) -> None:
    asked = {
        "threadId": "t",
        "runId": "r",
        "messages": [{"id": "q", "role": "user", "content": "go"}],
        "tools": [],
        "context": [],
        "state": {},
        "forwardedProps": {"model": SLOW},
    }
    first = Server(tmp_path)
    async with first as client:
        run = await Body.of(client, "POST", "/ag-ui", asked)
        await run.until("TEXT_MESSAGE_CONTENT")
        first.program.signal(signal.SIGTERM)
        events = events_of(await run.rest())
        assert run.is_whole
        (notice,) = (event for event in events if event["type"] == "CUSTOM")
        assert (notice["name"], notice["value"]["code"]) == ("turnstream.notice", "draining")
        assert events[-1]["type"] == "RUN_FINISHED"
        assert (await first.program.ended()).code == 0
    async with Server(tmp_path) as client:
        assert await stored_text(client, events[-1]["result"]["turnId"]) == ("complete", text_of(events))
        joined = await Body.of(client, "POST", "/ag-ui", asked)
        snapshot, end = events_of(await joined.rest())[-2:]
        assert snapshot["messages"][-1]["content"] == text_of(events)
        assert end["type"] == "RUN_FINISHED"
