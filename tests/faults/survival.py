"""Turns over failing providers, through the server and without it, with a fallback and without.

The simulator's log shows which requests were really sent. `survival_faults` lists the faults.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.faults.chat_face import check_retracted, client_code, ended_row, notices_of, read_answer
from tests.faults.reading import Reader
from tests.faults.survival_faults import (
    EVENT_LIMIT,
    EVENTS,
    LOGGED,
    MOST_ATTEMPTS,
    MOST_WITHIN_SPACING,
    SEED,
    STORY,
    Fault,
    Scale,
    story_of,
)
from tests.server.live import Answer, Client, Watcher, serving
from turnstream.config import (
    CapabilitySettings,
    EngineSettings,
    PriceSettings,
    ProviderSettings,
    RetrySettings,
    Settings,
)
from turnstream.core.blocks import Block, Message
from turnstream.core.turn_events import Notice, TurnEvent
from turnstream.engine import Engine
from turnstream.errors import ProviderError
from turnstream.llm.callbacks import Callbacks
from turnstream.llm.language_model import LLM
from turnstream.llm.model_message import ModelMessage
from turnstream.providers.catalog import Catalog
from turnstream.providers.plan import Planner, Restarts
from turnstream.providers.routing import Routing, planner_of
from turnstream.simulator.registration import SIMULATOR
from turnstream.simulator.request_log import LoggedRequest, RequestLog
from turnstream.simulator.server import Answers, SimulatorServer
from turnstream.wires.base import ModelRequest


class Outcome(NamedTuple):
    """End of a turn. `attempts`: model and outcome of each call, if known. `seconds`: its duration."""

    code: str | None
    text: str
    notices: Sequence[str]
    attempts: Sequence[tuple[str, str]]
    seconds: float
    row: dict[str, Any] | None = None


class Asked(NamedTuple):
    """The two models of one try, each with its own name."""

    primary: str
    fallback: str

    @property
    def names(self) -> tuple[str, str]:
        return self.primary.partition("/")[2], self.fallback.partition("/")[2]


def asked(fault: Fault, scale: Scale, label: str) -> Asked:
    """Return the models for one try of a fault. `label` keeps their names apart from those of other tries."""
    options = fault.primary.format(slow=scale.slow, retry_after=scale.retry_after)
    healthy = f"story:events={EVENTS},seed={SEED},pace={scale.pace},label={label}"
    other = healthy.replace(f"seed={SEED}", f"seed={fault.seed}")
    fallback = f"{other} fallback" + (f",{fault.fallback}" if fault.fallback else "")
    return Asked(f"primary/{healthy} primary,{options}", f"backup/{fallback}")


class Faces:
    """The server, and the library without it, over one simulated provider."""

    def __init__(self, upstream: SimulatorServer, engine: Engine, client: Client, scale: Scale) -> None:
        self.upstream = upstream
        self.scale = scale
        self._engine = engine
        self._client = client
        self._planner: Planner = planner_of(scale.retry)
        self._providers, self._capabilities = _providers(upstream.url, scale)
        self._llms: dict[tuple[Asked, bool], LLM] = {}
        self._catalog = Catalog(
            self._providers, in_process=SIMULATOR, environ={}, capabilities=self._capabilities
        )
        self._routing = Routing(self._catalog)

    async def server(self, models: Asked, *, with_fallback: bool) -> Outcome:
        """Run a turn over HTTP, watched from its beginning. The watcher's blocks must equal the stored
        blocks."""
        began = asyncio.get_running_loop().time()
        fallbacks = [models.fallback] if with_fallback else []
        async with asyncio.timeout(self.scale.within):
            turn_id = await self._client.start("go on", model=models.primary, fallbacks=fallbacks)
            watcher = Watcher(self._client, turn_id)
            notices: list[str] = []
            take = watcher.take

            def take_and_note(name: str, identity: str, data: dict[str, Any]) -> None:
                if name == "notice":
                    notices.append(data["code"])
                take(name, identity, data)

            watcher.take = take_and_note  # type: ignore[method-assign]
            await watcher.watch_to_the_end()
        row = (await self._client.call("GET", f"/turns/{turn_id}")).json
        seconds = asyncio.get_running_loop().time() - began
        stored = await self._client.stored(turn_id)
        assert watcher.blocks == stored
        late = Watcher(self._client, turn_id)
        await late.watch_to_the_end()
        assert late.blocks == stored
        assert row["status"] == ("error" if row["error"] else "complete")
        attempts = [(attempt["model"], attempt["outcome"]) for attempt in row["attempts"]]
        text = "".join(block["text_content"] or "" for block in stored)
        code = row["error"]["code"] if row["error"] else None
        return Outcome(code, text, notices, attempts, seconds, row)

    async def chat(self, models: Asked, *, with_fallback: bool) -> Outcome:
        """Run a turn as a client of OpenAI Chat Completions, with its fallbacks in the body."""
        began = asyncio.get_running_loop().time()
        fallbacks = [models.fallback] if with_fallback else []
        async with asyncio.timeout(self.scale.within):
            read = await read_answer(self._client, models.primary, fallbacks)
            row = await ended_row(self._engine, self._client, read["turn"])
        seconds = asyncio.get_running_loop().time() - began
        attempts = [(attempt["model"], attempt["outcome"]) for attempt in row["attempts"]]
        notices = await notices_of(self._engine, read["turn"])
        return Outcome(client_code(read, row), read["text"], notices, attempts, seconds, row)

    async def library(self, models: Asked, *, with_fallback: bool) -> Outcome:
        """Run the turn as a program without a server."""
        began = asyncio.get_running_loop().time()
        notices: list[str] = []

        def note(event: TurnEvent) -> None:
            if isinstance(event, Notice):
                notices.append(event.code)

        code = None
        async with asyncio.timeout(self.scale.within):
            try:
                message = await self._llm(models, with_fallback=with_fallback).collect(
                    "go on", callbacks=Callbacks(on_event=note)
                )
            except ProviderError as error:
                code, message = error.code, error.partial
        seconds = asyncio.get_running_loop().time() - began
        assert isinstance(message, ModelMessage)
        assert message.complete == (code is None)
        attempts = [(attempt.called.name, attempt.outcome) for attempt in message.attempts]
        assert sum(attempt.usage.output_tokens or 0 for attempt in message.attempts) == (
            message.usage.output_tokens or 0
        )
        return Outcome(code, message.text, notices, attempts, seconds)

    def _llm(self, models: Asked, *, with_fallback: bool) -> LLM:
        """Return one source for all calls of these models, with circuits of its own."""
        key = (models, with_fallback)
        llm = self._llms.get(key)
        if llm is None:
            llm = self._llms[key] = LLM(
                models.primary,
                fallbacks=[models.fallback] if with_fallback else [],
                providers=self._providers,
                capabilities=self._capabilities,
                settings=Settings(retry=self.scale.retry),
            )
        return llm

    def reader(
        self,
        models: Asked,
        *,
        with_fallback: bool = True,
        between: Sequence[str] = (),
        restarts: Restarts = "reset",
    ) -> Reader:
        """A reader of answers without a server. It calls `between` before the fallback."""
        request = ModelRequest(models.primary, (Message("user", (Block(0, "text", "go on"),)),))
        fallbacks = [*between, models.fallback] if with_fallback else []
        routed = self._routing.models(models.primary, fallbacks, request)
        return Reader(self._planner.plan(routed, restarts=restarts), request)

    async def post_turn(self, model: str, fallbacks: Sequence[str]) -> Answer:
        """Return the answer to a POST that starts a turn."""
        chat = (await self._client.call("POST", "/chats")).json["id"]
        body = {
            "turn_blocks": [{"block_type": "text", "text_content": "go on"}],
            "model": model,
            "fallbacks": fallbacks,
        }
        return await self._client.call("POST", f"/chats/{chat}/turns", body)

    def requests(self, model: str) -> list[LoggedRequest]:
        """Return the requests of one model, whatever the order of its options."""
        log = self.upstream.log.newest(LOGGED)
        return [entry for entry in log if _model_of(entry) == model]

    async def close(self) -> None:
        for llm in self._llms.values():
            await llm.close()
        await self._catalog.close()


def check(fault: Fault, faces: Faces, models: Asked, outcome: Outcome, *, with_fallback: bool) -> None:
    """The end of one try, the provider's log, and the events of the caller."""
    if outcome.code == "retracted" and with_fallback:
        check_retracted(fault, outcome)
        return
    fault = fault.at(faces.scale)
    primary, fallback = (faces.requests(name) for name in models.names)
    wanted = fault.calls if with_fallback else (fault.calls_alone, 0)
    most = 2 * wanted[0] if fault.resets else wanted[0]
    assert wanted[0] <= len(primary) <= most, (fault.name, outcome)
    assert len(fallback) == wanted[1], (fault.name, outcome)
    for requests in (fallback,) if fault.resets else (primary, fallback):
        check_rates(requests, faces.scale.retry)
    is_whole = fault.alone is None or (with_fallback and fault.name != "content filter")
    if is_whole:
        said = story_of(fault.seed if wanted[1] else SEED)
        assert (outcome.code, outcome.text) == (None, said), (fault.name, outcome)
    else:
        assert outcome.code == fault.alone, (fault.name, outcome)
        assert STORY.startswith(outcome.text)
    assert len(outcome.attempts) == sum(wanted), (fault.name, outcome)
    if with_fallback:
        assert set(outcome.notices) == fault.told, (fault.name, outcome)
    assert len(outcome.notices) == len(outcome.attempts) - 1
    if outcome.row is not None:
        check_row(fault, models, outcome.row, is_whole=is_whole)


def check_row(fault: Fault, models: Asked, row: dict[str, Any], *, is_whole: bool) -> None:
    """Check the attempts that the caller sees, and the cost of the turn."""
    last = row["attempts"][-1]
    assert last["outcome"] == ("complete" if is_whole else fault.alone)
    assert row["asked_model"] == models.primary
    assert row["model"] == (last["model"] if is_whole else models.primary)
    used = [attempt for attempt in row["attempts"] if attempt["output_tokens"] is not None]
    assert row["output_tokens"] == (sum(attempt["output_tokens"] for attempt in used) if used else None)
    if used:
        assert Decimal(row["cost"]) == sum(Decimal(attempt["cost"]) for attempt in used)
    if is_whole:
        assert not last["estimated"]
        rates = {"primary": (1, 2), "backup": (10, 20)}[last["model"].partition("/")[0]]
        cost = last["input_tokens"] * rates[0] + last["output_tokens"] * rates[1]
        assert Decimal(last["cost"]) == Decimal(cost) / 1_000_000
    for attempt in row["attempts"]:
        assert attempt["duration"] >= 0


def check_rates(requests: Sequence[LoggedRequest], retry: RetrySettings) -> None:
    """Check that a model is called at most six times, and at most twice within the spacing."""
    assert len(requests) <= MOST_ATTEMPTS
    times = [datetime.fromisoformat(entry.time).timestamp() for entry in requests]
    for first, third in zip(times, times[MOST_WITHIN_SPACING:], strict=False):
        assert third - first >= retry.spacing, times


def _model_of(entry: LoggedRequest) -> str:
    return msgspec.json.decode(entry.body)["model"]


def _providers(url: str, scale: Scale) -> tuple[dict[str, ProviderSettings], dict[str, CapabilitySettings]]:
    """Return a primary on one wire that accepts no prefill, and a fallback on another wire that does."""
    providers = {
        name: ProviderSettings(
            wire=wire, base_url=f"{url}/v1", timeouts=scale.timeouts, event_limit=EVENT_LIMIT
        )
        for name, wire in (("primary", "openai-chat"), ("backup", "anthropic"))
    }
    providers["nobody"] = ProviderSettings(wire="anthropic", base_url="http://127.0.0.1:9")
    providers["keyless"] = ProviderSettings(wire="anthropic", base_url=url, api_key_env="NO_SUCH_KEY")
    capabilities = {
        "primary/*": CapabilitySettings(prefill=False, context_tokens=1000),
        "backup/*": CapabilitySettings(prefill=True, context_tokens=2000),
    }
    return providers, capabilities


@asynccontextmanager
async def faces_of(folder: Path, scale: Scale) -> AsyncIterator[Faces]:
    """Both faces over one simulator."""
    prices = {
        "primary/*": PriceSettings(input_per_million=Decimal(1), output_per_million=Decimal(2)),
        "backup/*": PriceSettings(input_per_million=Decimal(10), output_per_million=Decimal(20)),
    }
    async with SimulatorServer(answers=Answers(log=RequestLog(kept=LOGGED))) as upstream:
        providers, capabilities = _providers(upstream.url, scale)
        engine = Engine(
            f"sqlite:///{folder}/chats.sqlite",
            settings=EngineSettings(),
            providers=providers,
            capabilities=capabilities,
            prices=prices,
            retry=scale.retry,
        )
        async with serving(engine.application()) as port:
            faces = Faces(upstream, engine, Client(port), scale)
            try:
                yield faces
            finally:
                await faces.close()


class Outage(NamedTuple):
    """A provider that is down for a while: turns until it answers again, with the outcome and the requests of
    each."""

    answered_by: Sequence[str]
    called: int
    """Requests that reached the primary while it was down."""
    skipped: int
    """Turns that did not try the primary."""


async def outlive(faces: Faces, face: str, label: str, *, between: float = 0.0) -> Outage:
    """Run turns with `between` seconds between them, until the primary answers again."""
    scale = faces.scale
    healthy = f"story:events={EVENTS},seed={SEED},pace={scale.pace},label={label}"
    primary = f"{healthy} primary,fault=error-before,status=503,lasting={scale.down}"
    models = Asked(f"primary/{primary}", f"backup/{healthy} fallback")
    answered_by: list[str] = []
    skipped = 0
    async with asyncio.timeout(scale.down + scale.within):
        while not answered_by or not answered_by[-1].startswith("primary"):
            before = len(faces.requests(primary))
            outcome = await getattr(faces, face)(models, with_fallback=True)
            assert (outcome.code, outcome.text) == (None, STORY)
            answered_by.append(outcome.attempts[-1][0])
            skipped += len(faces.requests(primary)) == before
            await asyncio.sleep(between)
    outcome = await getattr(faces, face)(models, with_fallback=True)
    assert [name for name, _ in outcome.attempts] == [models.primary], "it is the first again"
    requests = faces.requests(primary)
    failed = [request for request in requests if request.answered.status == 503]
    return Outage(answered_by, len(failed), skipped)
