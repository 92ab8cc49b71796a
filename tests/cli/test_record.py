"""`turnstream record` writes the received bytes, without keys."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cli.programs import Program, listening, run
from turnstream.simulator.texts import UNUSUAL

KEY = "sk-test-0123456789"


async def test_a_model_is_recorded_byte_for_byte_and_decodes(tmp_path: Path) -> None:
    async with Program("simulate", "--port", "0", cwd=tmp_path) as simulator:
        url = await listening(simulator)
        (tmp_path / "turnstream.toml").write_text(
            f'[providers.look]\nwire = "anthropic"\nbase_url = "{url}"\napi_key_env = "LOOK_KEY"\n'
        )
        environ = {"LOOK_KEY": KEY}
        ended = await run(
            "record", "look/thinking:pace=0", "Hi", "-o", "answer.sse.gz", cwd=tmp_path, environ=environ
        )
        assert (ended.code, ended.errors) == (0, "")
        assert "(status 200) in answer.sse.gz" in ended.output
        body = gzip.decompress((tmp_path / "answer.sse.gz").read_bytes())
        assert body.startswith(b"event: message_start\n")
        decoded = await run("decode", "--wire", "anthropic", "answer.sse.gz", cwd=tmp_path)
        assert json.loads(decoded.output)["blocks"][1]["text_content"] == UNUSUAL


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """A server of one answer, which `answer` makes from the request's head."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(head))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/anything"


async def test_a_key_that_comes_back_is_masked_and_a_broken_answer_is_kept(tmp_path: Path) -> None:
    def answer(head: bytes) -> bytes:
        said = b'data: {"error": "bad key %s"}\n\n' % KEY.encode()
        assert KEY.encode() in head
        return (
            b"HTTP/1.1 401 Unauthorized\r\nContent-Type: text/event-stream\r\nContent-Length: 900\r\n\r\n"
            + said
        )

    async with answering(answer) as url:
        header = f"Authorization: Bearer {KEY}"
        ended = await run("record", url, "{}", "-H", header, "-o", "answer.sse", cwd=tmp_path)
    assert ended.code == 0
    assert "status 401" in ended.output
    assert "keys in it were masked" in ended.output
    assert "it is not whole" in ended.output
    assert KEY not in ended.output + ended.errors
    written = (tmp_path / "answer.sse").read_bytes()
    assert written == b'data: {"error": "bad key %s"}\n\n' % (b"*" * len(KEY))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sim/echo", "Hi", "-o", "x"), "sends no bytes: start `turnstream simulate`"),
        (("http://127.0.0.1:9/x", "{}", "-o", "x"), "no connection"),
        (("http://127.0.0.1:9/x", "{}", "-o", "x", "-H", "nonsense"), "is not a header"),
        (("http://127.0.0.1:9/x", "-o", "x"), "the prompt is missing"),
    ],
)
async def test_what_cannot_be_recorded_is_said(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    ended = await run("record", *arguments, cwd=tmp_path)
    assert ended.code in (1, 2)
    assert words in ended.errors
    assert not (tmp_path / "x").exists()
