"""Chat Completions before the first output: comments, late errors, and the headers of a refusal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.server.live import SECONDS, Answer, read_chunks, read_head
from tests.server.protocols.test_openai_chat import CHAT, Streamed, asked, running, user
from turnstream.config import EngineSettings, RetrySettings
from turnstream.server.protocols import first_output

COMMENT = b": keep-alive\n\n"


@pytest.mark.requirement("N5", "O1")
async def test_a_late_answer_begins_with_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_output, "PATIENCE", 0.01)
    async with running(tmp_path, settings=EngineSettings(heartbeat=0.1)) as (client, _):
        model = "sim/story:events=9,pace=0,first=0.4"
        answer = await client.call("POST", CHAT, asked(user("one"), model=model, stream=True))
        assert COMMENT in answer.body
        read = Streamed(answer)
        assert read.done
        assert read.text


@pytest.mark.requirement("N5", "P5")
async def test_an_error_after_the_response_began_is_its_last_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_output, "PATIENCE", 0.01)
    async with running(tmp_path, settings=EngineSettings(heartbeat=0.1)) as (client, native):
        body = asked(user("one"), model="sim/story:events=9,first=600", stream=True)
        reader, writer = await client.open("POST", CHAT, body)
        async with asyncio.timeout(SECONDS):
            status, headers = await read_head(reader)
            received = b""
            async for chunk in read_chunks(reader, headers):
                if COMMENT in chunk and COMMENT not in received:
                    await native.call("POST", f"/turns/{headers['x-request-id']}/interrupt")
                received += chunk
        writer.close()
        read = Streamed(Answer(status, headers, received))
        assert read.error is not None
        assert read.error["code"] == "cancelled"
        assert not read.done


@pytest.mark.requirement("N5", "P5")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_says_when_to_try_again(tmp_path: Path, *, stream: bool) -> None:
    model = "sim/story:events=9,pace=0,fault=error-before,status=429,retry-after=7"
    async with running(tmp_path, retry=RetrySettings(attempts=1)) as (client, native):
        answer = await client.call("POST", CHAT, asked(user("one"), model=model, stream=stream))
        assert answer.status == 429
        assert answer.headers["retry-after"] == "7"
        assert answer.json["error"]["type"] == "rate_limit_error"
        turn = (await native.call("GET", f"/turns/{answer.headers['x-request-id']}")).json
        assert turn["status"] == "error"
