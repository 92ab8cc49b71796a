"""The simulator's log of its requests."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.simulator.asking import post
from turnstream.errors import ConfigurationError
from turnstream.simulator.request_log import BODY_LIMIT, REQUESTS_KEPT, RequestLog, masked
from turnstream.simulator.server import Answers, SimulatorServer
from turnstream.wires import WIRES

ANTHROPIC = WIRES["anthropic"]


async def requests_of(url: str, query: str = "") -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_simulator/requests{query}") as answer:
        assert answer.status == 200
        return (await answer.json())["requests"]


async def test_requests_are_told_newest_last(simulator_server, ask):
    url = simulator_server.url
    await post(url, ANTHROPIC, ask("echo:pace=0"))
    await post(url, ANTHROPIC, ask("echo:pace=0"), "fault=cut")
    await post(url, WIRES["ollama"], ask("nobody"))
    await post(url, WIRES["openai-chat"], ask("echo:pace=0"), stream=False)
    told = await requests_of(url)
    assert [request["number"] for request in told] == [1, 2, 3, 4]
    assert [request["path"] for request in told] == [
        "/v1/messages",
        "/v1/messages",
        "/api/chat",
        "/v1/chat/completions",
    ]
    assert told[0]["body"]["model"] == "echo:pace=0"
    assert told[0]["body"]["messages"][0]["role"] == "user"
    answered = [request["answered"] for request in told]
    assert [answer["status"] for answer in answered] == [200, 200, 404, 200]
    assert [answer["ended"] for answer in answered] == ["complete", "broken off", "complete", "complete"]
    assert [answer.get("stream", False) for answer in answered] == [True, True, True, False]
    assert answered[1]["simulate"] == "fault=cut"
    assert answered[0]["bytes"] > answered[1]["bytes"] > 0
    assert [request["number"] for request in await requests_of(url, "?limit=2")] == [3, 4]
    assert [request["number"] for request in await requests_of(url, "?limit=none")] == [1, 2, 3, 4]


async def test_a_header_that_is_no_text_is_noted_all_the_same(tmp_path):
    with RequestLog(tmp_path / "requests.jsonl") as log:
        async with SimulatorServer(answers=Answers(log=log)) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            body = b'{"model":"echo:pace=0","messages":[{"role":"user","content":"hi"}],"max_tokens":9}'
            writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Name: caf\xe9\r\n")
            writer.write(b"X-Simulate: \xff\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            answer = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            told = await requests_of(server.url)
    assert answer.startswith(b"HTTP/1.1 400"), "the option is none"
    assert told[0]["headers"]["x-name"] == "caf?"
    assert told[0]["answered"]["simulate"] == "?"
    assert json.loads((tmp_path / "requests.jsonl").read_bytes()) == told[0]


async def test_it_can_be_emptied(simulator_server, ask):
    await post(simulator_server.url, ANTHROPIC, ask("echo:pace=0"))
    address = f"{simulator_server.url}/_simulator/requests"
    async with aiohttp.ClientSession() as session, session.delete(address) as answer:
        assert answer.status == 204
    assert await requests_of(simulator_server.url) == []
    await post(simulator_server.url, ANTHROPIC, ask("echo:pace=0"))
    assert [request["number"] for request in await requests_of(simulator_server.url)] == [2]


async def test_a_request_is_seen_while_it_is_answered(ask):
    asked, left = asyncio.Event(), asyncio.Event()

    def report(line: str) -> None:
        (left if "went away" in line else asked).set()

    async with SimulatorServer(report=report) as server, asyncio.timeout(5):
        call = asyncio.create_task(post(server.url, ANTHROPIC, ask("echo"), "fault=hang"))
        await asked.wait()
        (told,) = await requests_of(server.url)
        assert "ended" not in told["answered"]
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await left.wait()
        (told,) = await requests_of(server.url)
    assert told["answered"]["ended"] == "client went away"


async def test_the_file(tmp_path, ask):
    path = tmp_path / "requests.jsonl"
    with RequestLog(path) as log:
        async with SimulatorServer(answers=Answers(log=log)) as server:
            await post(server.url, ANTHROPIC, ask("echo:pace=0"))
            await post(server.url, ANTHROPIC, ask("echo:pace=0"), "fault=error-before")
            told = await requests_of(server.url)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == told
    assert [line["answered"]["status"] for line in lines] == [200, 500]
    assert "simulated error 500" in lines[1]["answered"]["error"]


async def test_secrets_are_masked(tmp_path):
    path = tmp_path / "requests.jsonl"
    secret = "sk-very-secret"
    names = ["Authorization", "X-Api-Key", "api-key", "Cookie", "X-Goog-Api-Key", "X-Auth-Token"]
    with RequestLog(path) as log:
        async with SimulatorServer(answers=Answers(log=log)) as server, aiohttp.ClientSession() as session:
            url = f"{server.url}/v1/messages?key={secret}"
            async with session.post(url, data=b"{", headers=dict.fromkeys(names, secret)) as answer:
                assert answer.status == 400
    text = path.read_text(encoding="utf-8")
    assert secret not in text
    headers = json.loads(text)["headers"]
    assert {headers[name.lower()] for name in names} == {"***"}
    assert headers["host"].startswith("127.0.0.1")


def test_it_is_bounded():
    log = RequestLog()
    body = json.dumps({"filler": "ü" * BODY_LIMIT}).encode()
    for _ in range(REQUESTS_KEPT + 10):
        log.begin("POST", "/" + "x" * 5000, {"a": "b" * 5000}, body)
    kept = log.newest(10_000)
    assert [request.number for request in kept] == list(range(11, REQUESTS_KEPT + 11))
    last = kept[-1]
    assert (last.body_bytes, last.body_truncated) == (len(body), True)
    assert len(bytes(last.body)) < 2 * BODY_LIMIT
    assert len(last.path) == len(last.headers["a"]) == 1000


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", b'"\\ud800"', b"[" * 5000])
def test_a_body_that_is_no_json_is_kept_as_text(body):
    kept = RequestLog().begin("POST", "/", {}, body).body
    assert json.loads(bytes(kept)) == body.decode("utf-8", "replace")


def test_a_body_stays_on_its_line():
    kept = RequestLog().begin("POST", "/", {}, b'{\n  "a":\r\n 1}').body
    assert bytes(kept) == b'{"a":1}'


def test_names_are_in_lower_case():
    assert masked({"X-API-Key": "a", "Accept": "b"}) == {"x-api-key": "***", "accept": "b"}


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be written"):
        RequestLog(tmp_path)
