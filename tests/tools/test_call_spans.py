"""Traces and metrics of an engine's turns, as the SDK of OpenTelemetry collects them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fastapi import FastAPI
from opentelemetry import metrics, trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode

from tests.server.live import serving
from turnstream.config import TelemetrySettings
from turnstream.engine import Engine

SECONDS = 30.0
TRACE, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
TRACEPARENT = f"00-{TRACE:032x}-{PARENT:016x}-01"
SAID = "the user's own words"
LOOKED_UP = "what the tool found"

EXPORTER = InMemorySpanExporter()
READER = InMemoryMetricReader()


class DuringTests(Sampler):
    """Records spans only while a test of this module runs. FastAPI makes spans in all tests."""

    is_on = False

    def should_sample(self, *given: Any, **_: Any) -> SamplingResult:
        """Return the same decision for all spans."""
        decision = Decision.RECORD_AND_SAMPLE if self.is_on else Decision.DROP
        return SamplingResult(decision, given[4])

    def get_description(self) -> str:
        """Return the name of the sampler."""
        return type(self).__name__


SAMPLER = DuringTests()


@cache
def configure_sdk() -> None:
    """Configure the SDK of this process. A process can do this only once."""
    traces = TracerProvider(sampler=SAMPLER)
    traces.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(traces)
    metrics.set_meter_provider(MeterProvider(metric_readers=[READER]))


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect the spans of one test."""
    configure_sdk()
    EXPORTER.clear()
    SAMPLER.is_on = True
    yield
    SAMPLER.is_on = False
    EXPORTER.clear()


def look_up(subject: str) -> str:
    """Look something up.

    Args:
        subject: The subject.
    """
    with trace.get_tracer("the host application").start_as_current_span("inside the tool"):
        return LOOKED_UP + subject[:0]


@asynccontextmanager
async def client_of(
    tmp_path: Path, *, is_on: bool = True, with_texts: bool = False, in_host: bool = False
) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a client of our own server, or of a host application."""
    telemetry = TelemetrySettings(opentelemetry=is_on, record_content=with_texts)
    engine = Engine(f"sqlite:///{tmp_path}/chats.sqlite", tools=[look_up], telemetry=telemetry)
    async with (
        asyncio.timeout(SECONDS),
        engine if in_host else nullcontext(),
        serving(host_of(engine) if in_host else engine.application()) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield session


def host_of(engine: Engine) -> FastAPI:
    host = FastAPI()
    host.include_router(engine.router("/api"))
    return host


async def ask(
    session: aiohttp.ClientSession,
    model: str,
    headers: dict[str, str] | None = None,
    *,
    query: str = "?stream=true",
) -> str:
    """Ask, and read the answer to its end. Return the id of its turn."""
    async with session.post("/api/chats", json={}) as response:
        chat = (await response.json())["id"]
    body = {"turn_blocks": SAID, "model": model}
    url = f"/api/chats/{chat}/turns{query}"
    async with session.post(url, json=body, headers=headers) as response:
        assert response.status == (200 if query else 201)
        await response.read()
    async with session.get(f"/api/chats/{chat}/turns") as response:
        turn_id = (await response.json())["turns"][-1]["id"]
    async with session.get(f"/api/turns/{turn_id}/stream") as response:
        assert b"event: turn_" in await response.read()
    while not any(span.name == "invoke_agent" for span in spans()):  # noqa: ASYNC110 - it ends after its stream
        await asyncio.sleep(0.01)
    return turn_id


def spans() -> list[ReadableSpan]:
    return list(EXPORTER.get_finished_spans())


def named(name: str) -> list[ReadableSpan]:
    return [span for span in spans() if span.name == name]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def points(name: str) -> list[HistogramDataPoint]:
    data = READER.get_metrics_data()
    assert data is not None
    found = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        if scope.scope.name == "turnstream"
        for metric in scope.metrics
        if metric.name == name
    ]
    return [point for metric in found for point in metric.data.data_points]  # type: ignore[misc]


def counts(name: str, model: str) -> dict[tuple[Any, Any], tuple[int, float]]:
    """Return the number and the sum of a model's measurements, by token type and error."""
    return {
        (one.get("gen_ai.token.type"), one.get("error.type")): (point.count, point.sum)
        for point in points(name)
        if (one := dict(point.attributes or {}))["gen_ai.request.model"] == model
    }


async def test_a_turn_its_model_calls_and_its_tools_have_spans_in_the_trace_of_the_request(
    tmp_path: Path,
) -> None:
    model = "tools:pace=0,seed=1"
    async with client_of(tmp_path) as session:
        turn_id = await ask(session, f"sim/{model}", {"traceparent": TRACEPARENT})
        async with session.get(f"/api/turns/{turn_id}") as response:
            stored = await response.json()
    (turn,) = named("invoke_agent")
    assert turn.parent is not None
    assert (turn.parent.trace_id, turn.parent.span_id) == (TRACE, PARENT)
    assert attributes(turn) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.conversation.id": stored["chat_id"],
        "gen_ai.provider.name": "sim",
        "gen_ai.request.model": model,
        "turnstream.turn.id": turn_id,
        "turnstream.turn.status": "complete",
    }
    calls = named(f"chat {model}")
    assert len(calls) == len(stored["attempts"]) == 2
    assert turn.context is not None
    for call, attempt in zip(calls, stored["attempts"], strict=True):
        assert call.parent is not None
        assert call.parent.span_id == turn.context.span_id
        assert call.kind is SpanKind.CLIENT
        assert call.end_time is not None
        assert call.start_time is not None
        assert (call.end_time - call.start_time) / 1e9 == pytest.approx(attempt["duration"], abs=1e-5)
        found = attributes(call)
        assert found["gen_ai.operation.name"] == "chat"
        assert found["gen_ai.usage.input_tokens"] == attempt["input_tokens"]
        assert found["gen_ai.usage.output_tokens"] == attempt["output_tokens"]
        assert found["gen_ai.response.time_to_first_chunk"] == pytest.approx(
            attempt["first_output"], abs=1e-5
        )
        assert found["gen_ai.response.model"]
    reasons = [attributes(call)["gen_ai.response.finish_reasons"] for call in calls]
    assert reasons == [("tool_call",), ("stop",)]
    runs, inside = named("execute_tool look_up"), named("inside the tool")
    assert len(runs) == len(inside) == 2
    for run, child in zip(runs, inside, strict=True):
        assert run.parent is not None
        assert child.parent is not None
        assert run.context is not None
        assert (run.parent.span_id, child.parent.span_id) == (turn.context.span_id, run.context.span_id)
        assert attributes(run)["gen_ai.tool.name"] == "look_up"
    used = counts("gen_ai.client.token.usage", model)
    for kind in ("input", "output"):
        tokens = [attempt[f"{kind}_tokens"] for attempt in stored["attempts"]]
        assert used[kind, None] == (2, sum(tokens))
    (took,) = counts("gen_ai.client.operation.duration", model).values()
    assert took == (2, pytest.approx(sum(a["duration"] for a in stored["attempts"]), abs=1e-4))
    (waited,) = counts("gen_ai.client.operation.time_to_first_chunk", model).values()
    assert waited[0] == 2
    everything = json.dumps([[span.name, attributes(span)] for span in spans()], default=str)
    assert SAID not in everything
    assert LOOKED_UP not in everything


async def test_a_request_without_a_trace_begins_one_of_its_own(tmp_path: Path) -> None:
    async with client_of(tmp_path) as session:
        await ask(session, "sim/echo:pace=0", {"traceparent": TRACEPARENT})
        EXPORTER.clear()
        await ask(session, "sim/echo:pace=0")  # on the same connection
        (turn,) = named("invoke_agent")
        assert turn.parent is None
        assert turn.context is not None
        assert turn.context.trace_id != TRACE


async def test_a_turn_is_in_the_trace_of_the_host_applications_instrumentation(tmp_path: Path) -> None:
    """FastAPI makes its own spans once the process has the SDK."""
    async with client_of(tmp_path, in_host=True) as session:
        await ask(session, "sim/echo:pace=0", {"traceparent": TRACEPARENT}, query="")
    (turn,) = named("invoke_agent")
    (request,) = named("POST /api/chats/{chat_id}/turns")
    assert turn.parent is not None
    assert request.context is not None
    assert turn.parent.trace_id == request.context.trace_id == TRACE
    assert turn.parent.span_id != PARENT


async def test_texts_are_in_the_spans_if_a_setting_asks(tmp_path: Path) -> None:
    async with client_of(tmp_path, with_texts=True) as session:
        await ask(session, "sim/tools:pace=0")
    (turn,) = named("invoke_agent")
    found = attributes(turn)
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": SAID}]}
    ]
    (answer,) = json.loads(found["gen_ai.output.messages"])
    assert answer["finish_reason"] == "stop"
    kinds = [part["type"] for part in answer["parts"]]
    assert kinds == ["text", "tool_call", "tool_call", "tool_call_response", "tool_call_response", "text"]
    run, _ = named("execute_tool look_up")
    assert set(json.loads(attributes(run)["gen_ai.tool.call.arguments"])) == {"subject"}
    assert attributes(run)["gen_ai.tool.call.result"] == LOOKED_UP


async def test_a_turn_without_rows_has_its_texts_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(tmp_path, with_texts=True) as session:
        body = {"model": "sim/echo:pace=0", "messages": [{"role": "user", "content": SAID}]}
        async with session.post("/v1/chat/completions", json=body) as response:
            assert response.status == 200
        while not (found := named("invoke_agent")):  # noqa: ASYNC110 - it ends after its stream
            await asyncio.sleep(0.01)
        assert SAID in str(attributes(found[0])["gen_ai.output.messages"])
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []


async def test_a_failed_call_and_its_turn_have_the_error_code(tmp_path: Path) -> None:
    model = "echo:pace=0,fault=error-before,status=400"
    async with client_of(tmp_path) as session:
        turn_id = await ask(session, f"sim/{model}")
        async with session.get(f"/api/turns/{turn_id}") as response:
            stored = await response.json()
    (turn,) = named("invoke_agent")
    code = stored["error"]["code"]
    assert attributes(turn)["error.type"] == code
    assert turn.status.status_code is StatusCode.ERROR
    calls = named(f"chat {model}")
    assert [attributes(call)["error.type"] for call in calls] == [a["outcome"] for a in stored["attempts"]]
    assert calls
    assert (None, code) in counts("gen_ai.client.operation.duration", model)


async def test_without_the_setting_nothing_is_traced(tmp_path: Path) -> None:
    async with client_of(tmp_path, is_on=False) as session:
        async with session.post("/api/chats", json={}) as response:
            chat = (await response.json())["id"]
        body = {"turn_blocks": SAID, "model": "sim/tools:pace=0"}
        async with session.post(f"/api/chats/{chat}/turns?stream=true", json=body) as response:
            assert b"event: turn_complete" in await response.read()
    scopes = [span.instrumentation_scope for span in spans()]
    assert named("inside the tool")
    assert not [scope for scope in scopes if scope is not None and scope.name == "turnstream"]


def test_without_the_setting_opentelemetry_is_not_imported() -> None:
    code = (
        "import sys, turnstream.engine as e; e.Engine('sqlite:///x'); print('opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@asynccontextmanager
async def serve(tmp_path: Path, endpoint: str) -> AsyncIterator[str]:
    """Run `turnstream serve` with the setting, and export to `endpoint`."""
    environment = os.environ | {
        "TURNSTREAM_TELEMETRY__OPENTELEMETRY": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
    }
    arguments = ("--port", "0", "--database-url", f"sqlite:///{tmp_path}/chats.sqlite")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "turnstream.cli.main", "serve", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
    )
    try:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if found := re.search(rb"listens on .*?(http://[^\s\x1b]+)", line):
                yield found[1].decode()
                return
        raise AssertionError((await process.communicate())[1].decode())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_server_exports_to_a_collector(tmp_path: Path) -> None:
    names: set[str] = set()
    services: set[str] = set()
    whole = asyncio.Event()

    async def collect(request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                services.update(one.value.string_value for one in resource.resource.attributes)
                names.update(span.name for scope in resource.scope_spans for span in scope.spans)
        else:
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                names.update(metric.name for scope in resource.scope_metrics for metric in scope.metrics)
        if {"invoke_agent", "chat echo:pace=0", "gen_ai.client.token.usage"} <= names:
            whole.set()
        return web.Response()

    application = web.Application()
    application.router.add_post("/{path:.*}", collect)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (address,) = runner.addresses
        async with (
            asyncio.timeout(2 * SECONDS),
            serve(tmp_path, f"http://127.0.0.1:{address[1]}") as url,
            aiohttp.ClientSession(url) as session,
        ):
            body = {"turn_blocks": SAID, "model": "sim/echo:pace=0"}
            async with session.get("/readyz") as response:
                assert response.status == 200
            async with session.post("/api/chats", json={}) as response:
                chat = (await response.json())["id"]
            async with session.post(f"/api/chats/{chat}/turns?stream=true", json=body) as response:
                await response.read()
            await whole.wait()
    finally:
        await runner.cleanup()
    assert "turnstream" in services
    assert "POST /api/chats" in names, "FastAPI's spans of requests are exported"
    assert not [name for name in names if "readyz" in name], "those of probes are not"
