"""The hook before a turn's first model call chooses the model, and gives keys for this turn only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.turns.world import SECONDS
from turnstream.config import EngineSettings, ProviderSettings, RetrySettings
from turnstream.core.turn_events import Notice
from turnstream.engine import Engine
from turnstream.server.auth import Principal
from turnstream.simulator.server import application
from turnstream.telemetry import MASK
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.new_turns import TurnState
from turnstream.turns.preparation import TurnPreparation

KEYS = {"ann": "sk-of-ann-0123456789", "bob": "sk-of-bob-9876543210"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KeyedProvider:
    """A simulated provider that notes the key of each request, and counts the refused keys."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[str] = []
        self.refused: set[str] = set()

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.seen.append(key)
        if key in self.refused:
            error = {"message": f"Incorrect API key provided: {key}", "type": "invalid_request_error"}
            return web.json_response({"error": error}, status=401)
        return await handler(request)


@pytest.fixture
async def provider() -> AsyncIterator[KeyedProvider]:
    made = KeyedProvider()
    app = application()
    app.middlewares.append(made.note)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield made
    await runner.cleanup()


def engine_of(
    folder: Path, provider: KeyedProvider, prepare: Callable[[TurnPreparation, Principal], None]
) -> Engine:
    return Engine(
        f"sqlite:///{folder}/a.sqlite",
        settings=EngineSettings(default_model="their/echo:pace=0"),
        providers={
            "their": ProviderSettings(
                wire="openai-chat", base_url=provider.url, api_key_env="KEY_THAT_IS_NOT_SET"
            ),
            "open": ProviderSettings(wire="openai-chat", base_url=provider.url),
        },
        retry=RetrySettings(attempts=1),
        prepare=prepare,
    )


async def ended(engine: Engine, user: str, **options: object) -> TurnState:
    async with asyncio.timeout(SECONDS):
        return await (await engine.send("hello", owner=user, **options)).wait()


def give_key(call: TurnPreparation, principal: Principal) -> None:
    if principal.owner in KEYS:
        call.keys["their"] = KEYS[principal.owner]


def stored_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_each_user_is_called_with_an_own_key(
    tmp_path: Path, provider: KeyedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with engine_of(tmp_path, provider, give_key) as engine:
        states = await asyncio.gather(*[ended(engine, user) for user in ("ann", "bob", "ann")])
        assert [state.turn.status for state in states] == ["complete"] * 3
        assert sorted(provider.seen) == sorted([KEYS["ann"], KEYS["bob"], KEYS["ann"]])
        nobody = await ended(engine, "cecil")
        assert (nobody.turn.status, nobody.turn.error_code) == ("error", "authentication_error")
        assert len(provider.seen) == 3
    for key in KEYS.values():
        assert key not in caplog.text
        assert key.encode() not in stored_bytes(tmp_path)


async def test_a_refused_key_is_in_no_row_no_log_line_and_no_error(
    tmp_path: Path, provider: KeyedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.refused.add(KEYS["ann"])
    async with engine_of(tmp_path, provider, give_key) as engine:
        state = await ended(engine, "ann")
    assert provider.seen == [KEYS["ann"]]
    assert state.turn.error_code == "authentication_error"
    assert "the key for this model provider is missing or was refused" in (state.turn.error_message or "")
    assert f"Incorrect API key provided: {MASK}" in caplog.text
    assert KEYS["ann"] not in caplog.text
    assert KEYS["ann"].encode() not in stored_bytes(tmp_path)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"thier": "x"}, "configuration_error"),
        ({"their": ""}, "authentication_error"),
        ({"their": "secret-ключ"}, "configuration_error"),
    ],
)
async def test_a_key_that_cannot_be_used_ends_the_turn_without_a_call(
    tmp_path: Path, provider: KeyedProvider, keys: dict[str, str], code: str
) -> None:
    def prepare(call: TurnPreparation, principal: Principal) -> None:
        call.keys.update(keys)

    async with engine_of(tmp_path, provider, prepare) as engine:
        state = await ended(engine, "ann")
    assert (state.turn.status, state.turn.error_code) == ("error", code)
    assert "secret" not in (state.turn.error_message or "")
    assert provider.seen == []


async def test_the_hook_chooses_the_model_and_the_turn_says_so(
    tmp_path: Path, provider: KeyedProvider
) -> None:
    def prepare(call: TurnPreparation, principal: Principal) -> None:
        assert call.model == "their/echo:pace=0"
        call.model = "open/echo:pace=0,seed=1"

    async with engine_of(tmp_path, provider, prepare) as engine:
        async with asyncio.timeout(SECONDS):
            turn = await engine.send("hello", owner="ann")
            state = await turn.wait()
            watcher = await turn.subscribe()
            frames = [data async for data in iterated(watcher)]
    events = [event for _, event in watcher.log.encoder.events(b"".join(frames))]
    notices = [(event.code, event.model) for event in events if isinstance(event, Notice)]
    assert notices == [("model_selected", "open/echo:pace=0,seed=1")]
    assert (state.turn.status, state.turn.model) == ("complete", "open/echo:pace=0,seed=1")
    assert state.turn.asked_model == "their/echo:pace=0"
    assert [attempt.model for attempt in state.attempts] == ["open/echo:pace=0,seed=1"]


async def iterated(watcher: Subscription) -> AsyncIterator[bytes]:
    while (data := await watcher.next()) is not None:
        yield data


async def test_an_unknown_model_ends_the_turn(tmp_path: Path, provider: KeyedProvider) -> None:
    def prepare(call: TurnPreparation, principal: Principal) -> None:
        call.model = "nowhere/model"

    async with engine_of(tmp_path, provider, prepare) as engine:
        state = await ended(engine, "ann")
    assert (state.turn.status, state.turn.error_code) == ("error", "invalid_request")
