"""An error outside of the stream's events, after a whole tool call. The tool does not run, and the answer is
an error."""

from __future__ import annotations

import pytest

import turnstream as ts
from tests.llm.conftest import ONCE
from tests.providers.conftest import Exchange, RawServer
from tests.wires.stream_samples import SAMPLES

pytestmark = pytest.mark.fault(11)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
ERROR = b'{"error": {"code": 429, "message": "slow down", "type": "rate_limit_error"}}\n\n'


@pytest.mark.parametrize("wire", SAMPLES)
@pytest.mark.parametrize("field", [b"error: ", b"", b"data: "], ids=["field", "bare", "data"])
async def test_a_tool_that_was_called_before_an_error_does_not_run(
    raw_server: RawServer, wire: str, field: bytes
) -> None:
    sample = SAMPLES[wire]
    runs: list[str] = []

    def f() -> str:
        runs.append("run")
        return "done"

    async def answer(exchange: Exchange) -> None:
        await exchange.send(HEAD, sample.text, sample.call, field + ERROR, sample.end, sample.done)
        exchange.writer.close()

    raw_server.answer = answer
    model = ts.LLM("over/m", providers={"over": {"wire": wire, "base_url": raw_server.url}}, settings=ONCE)
    with pytest.raises(ts.RateLimited) as raised:
        await model.collect("go", tools=[f])
    assert runs == []
    assert raised.value.detail == "slow down"
    assert raised.value.partial is not None
    assert raised.value.partial.text == "Half an ans"
