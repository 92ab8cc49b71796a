"""Each fault of a provider, over true sockets on both wires: a typed end in bounded time, the partial kept,
no key told
(requirements D4, D6, E6, E7, J5, K3)."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from tests.faults.processes import RunningProcess, server, simulator
from tests.faults.server_process import ServerPlan
from tests.faults.watching import Api, Watcher, stored_blocks
from turnstream.config import EngineSettings, ProviderSettings, Timeouts
from turnstream.simulator import texts
from turnstream.simulator.server import SimulatorServer

KEY = "sk-faults-9f2c61d7a8e340b5"
KEY_VARIABLE = "FAULTS_API_KEY"
WIRES = {"messages": "anthropic", "completions": "openai-chat"}
TIMEOUTS = Timeouts(connect=0.5, first_token=0.5, idle=0.5, total=1.2)
END_WITHIN = TIMEOUTS.total + 2.0
"""Seconds in which every fault must have ended its turn, on a busy machine too."""


class Fault(NamedTuple):
    """A simulated model, and how its turn must end. `partial`: whether text was sent before the fault."""

    model: str
    code: str
    partial: bool = False


def story(fault: str) -> str:
    return f"story:events=40,pace=0.001,fault={fault}"


FAULTS = [
    Fault(story("error-before,status=400"), "invalid_request_error"),
    Fault(story("error-before,status=401"), "authentication_error"),
    Fault(story("error-before,status=403"), "permission_error"),
    Fault(story("error-before,status=404"), "not_found_error"),
    Fault(story("error-before,status=429,retry-after=7"), "rate_limit_error"),
    Fault(story("error-before,status=500"), "api_error"),
    Fault(story("error-before,status=529"), "overloaded_error"),
    Fault(story("error,after=0,code=overloaded_error"), "overloaded_error"),
    Fault(story("error,after=9,code=overloaded_error"), "overloaded_error", partial=True),
    Fault(story("error,after=9,code=rate_limit_error"), "rate_limit_error", partial=True),
    Fault(story("error,after=9,code=api_error"), "api_error", partial=True),
    Fault(story("cut,after=0"), "stream_incomplete"),
    Fault(story("cut,after=9"), "stream_incomplete", partial=True),
    Fault(story("reset"), "connection_error"),
    Fault(story("reset,after=9"), "stream_incomplete", partial=True),
    Fault(story("hang"), "first_token_timeout"),
    Fault(story("silence,after=0"), "first_token_timeout"),
    Fault(story("silence,after=0,ping=0.1"), "first_token_timeout"),
    Fault(story("silence,after=9"), "idle_timeout", partial=True),
    Fault(story("silence,after=9,ping=0.1"), "idle_timeout", partial=True),
    Fault(story("slow-first,seconds=30"), "first_token_timeout"),
    Fault("story:events=4000,pace=0.02", "total_timeout", partial=True),
    Fault(story("malformed,after=9"), "malformed_event", partial=True),
    Fault(story("no-end"), "stream_incomplete", partial=True),
]


@dataclass
class FaultyWorld:
    """A server with a provider that has faults, and all that came out of the server."""

    api: Api
    plan: ServerPlan
    shown: list[str] = field(default_factory=list)

    async def take_turn(
        self, model: str, *, prev: str | None = None, chat_id: str | None = None
    ) -> tuple[dict[str, Any], Watcher]:
        """A whole turn, watched from its beginning; the turn as it is stored then."""
        chat_id = chat_id or await self.api.create_chat()
        turn_id = await self.api.start(chat_id, "go on", model, prev=prev)
        async with asyncio.timeout(END_WITHIN):
            watcher = await self.api.watched(turn_id)
        row = await self.api.turn(turn_id)
        self.shown.append(repr((watcher.frames, row)))
        return row, watcher

    async def take_next_turn(self, provider: str, row: dict[str, Any]) -> None:
        """The turn after this one in its chat, which must work."""
        model = f"{provider}/echo:pace=0"
        next_row, watcher = await self.take_turn(model, prev=row["id"], chat_id=row["chat_id"])
        assert next_row["status"] == "complete", next_row["error"]
        (block,) = stored_blocks(next_row)
        assert (block.text_content or "").endswith("go on")
        assert watcher.fold.blocks == [block]

    def assert_no_key(self) -> None:
        """Neither clients, nor rows, nor the log hold the provider's key."""
        assert self.shown
        assert not any(KEY in text for text in self.shown)
        for file in self.plan.database.parent.iterdir():
            assert KEY.encode() not in file.read_bytes(), file


def faulty_plan(
    folder: Path, base_url: str, *, debug: bool = False, orphan_timeout: float = 300.0, **options: Any
) -> ServerPlan:
    """A server whose providers, one on each wire, are at `base_url`; `options` are those of
    ProviderSettings."""
    return ServerPlan(
        folder / "chats.sqlite",
        folder / "log",
        providers={
            name: ProviderSettings(
                wire=wire,
                base_url=f"{base_url}/v1",
                api_key_env=KEY_VARIABLE,
                headers={"X-Extra-Secret": f"{KEY}-too"},
                **{"timeouts": TIMEOUTS, **options},
            )
            for name, wire in WIRES.items()
        },
        engine=EngineSettings(orphan_timeout=orphan_timeout),
        debug=debug,
        environ={KEY_VARIABLE: KEY},
    )


MakeFaulty = Callable[..., Awaitable[FaultyWorld]]


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerPlan, str]]:
    """A server and the simulator, each in its own process, for all tests that need nothing else; its plan
    and URL."""
    loop = asyncio.new_event_loop()
    folder = tmp_path_factory.mktemp("faulty")

    async def start(stack: AsyncExitStack) -> tuple[ServerPlan, str]:
        upstream = await stack.enter_async_context(simulator(tmp_path_factory.mktemp("provider") / "log"))
        plan = faulty_plan(folder, upstream.url)
        return plan, (await stack.enter_async_context(server(plan))).url

    stack = AsyncExitStack()
    try:
        yield loop.run_until_complete(start(stack))
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


@pytest.fixture
def faulty(shared_server: tuple[ServerPlan, str], session: aiohttp.ClientSession) -> FaultyWorld:
    plan, url = shared_server
    return FaultyWorld(Api(url, session), plan)


@pytest.fixture
async def make_faulty(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[MakeFaulty]:
    """Starts a server of its own; see `faulty_plan`."""
    async with AsyncExitStack() as stack:

        async def make(base_url: str, **options: Any) -> FaultyWorld:
            plan = faulty_plan(tmp_path, base_url, **options)
            process = await stack.enter_async_context(server(plan))
            return FaultyWorld(Api(process.url, session), plan)

        yield make


@pytest.mark.requirement("D4", "D6", "E6", "J4", "J5", "K3", "P4", "P5")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.model.partition("fault=")[2] or "endless")
async def test_a_fault_ends_its_turn_with_a_typed_error(fault: Fault, faulty: FaultyWorld) -> None:
    async def on_wire(provider: str) -> None:
        began = time.monotonic()
        row, watcher = await faulty.take_turn(f"{provider}/{fault.model}")
        assert time.monotonic() - began < END_WITHIN
        assert watcher.terminal_events() == ["turn_error"]
        told = watcher.frames[-1].data
        assert (row["status"], row["error"]["code"]) == ("error", fault.code)
        assert told["code"] == fault.code
        assert told["error"] == row["error"]["message"]
        assert "simulated" not in told["error"], "the provider's own words are for debugging only"
        stored = stored_blocks(row)
        assert watcher.fold.blocks == stored
        assert bool(stored) == fault.partial, stored
        sent_whole = provider == "messages" and "no-end" in fault.model  # its block_stop was sent
        assert all(block.partial != sent_whole for block in stored)
        await faulty.take_next_turn(provider, row)

    await asyncio.gather(*(on_wire(provider) for provider in WIRES))
    faulty.assert_no_key()


@pytest.mark.requirement("J5")
async def test_a_slow_first_token_within_its_clock_is_waited_for(
    make_faulty: MakeFaulty, provider: RunningProcess
) -> None:
    faulty = await make_faulty(provider.url, timeouts=Timeouts(first_token=5.0, idle=0.3, total=10.0))
    for name in WIRES:
        row, _ = await faulty.take_turn(f"{name}/{story('slow-first,seconds=0.6')}")
        assert row["status"] == "complete"


@pytest.mark.requirement("E6")
async def test_a_malformed_event_can_be_skipped(make_faulty: MakeFaulty, provider: RunningProcess) -> None:
    faulty = await make_faulty(provider.url, on_malformed="skip")
    for name in WIRES:
        row, watcher = await faulty.take_turn(f"{name}/{story('malformed,after=9')}")
        assert row["status"] == "complete", row["error"]
        assert watcher.fold.blocks == stored_blocks(row)


@pytest.mark.requirement("D4", "J2")
async def test_a_provider_that_is_not_there(make_faulty: MakeFaulty) -> None:
    faulty = await make_faulty("http://127.0.0.1:9")
    for name in WIRES:
        row, watcher = await faulty.take_turn(f"{name}/demo")
        assert row["error"]["code"] == "connection_error"
        assert watcher.terminal_events() == ["turn_error"]


@pytest.mark.requirement("K3")
async def test_debugging_shows_the_providers_own_words(
    make_faulty: MakeFaulty, provider: RunningProcess
) -> None:
    faulty = await make_faulty(provider.url, debug=True)
    for name in WIRES:
        for fault in ("error-before,status=500", "error,after=9"):
            row, watcher = await faulty.take_turn(f"{name}/{story(fault)}")
            assert "simulated" in row["error"]["message"]
            assert watcher.frames[-1].data["error"] == row["error"]["message"]
    faulty.assert_no_key()


async def _indiscreet(request: web.Request) -> web.StreamResponse:
    """A provider that repeats the key it was sent: in an error's body, in its stream, in a broken event."""
    given = f"{dict(request.headers)}"
    body = await request.json()
    if body["model"] == "status":
        return web.json_response({"error": {"message": given}}, status=400)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    if body["model"] == "stream":
        error = {"type": "error", "error": {"type": "api_error", "message": given}}
        await response.write(f"event: error\ndata: {json.dumps(error)}\n\n".encode())
    else:
        await response.write(f"data: {{{given}\n\n".encode())
    return response


@pytest.mark.requirement("K3")
@pytest.mark.parametrize("debug", [False, True])
async def test_a_key_that_the_provider_repeats_is_not_told(debug: bool, make_faulty: MakeFaulty) -> None:
    application = web.Application()
    application.router.add_post("/v1/{path:.*}", _indiscreet)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        faulty = await make_faulty(f"http://{host}:{port}", debug=debug)
        for name in WIRES:
            for model in ("status", "stream", "broken"):
                row, _ = await faulty.take_turn(f"{name}/{model}")
                assert row["status"] == "error"
        faulty.assert_no_key()
    finally:
        await runner.cleanup()


@pytest.mark.requirement("A4", "D1", "E7", "J4")
@pytest.mark.parametrize(
    ("fault", "shown"), [("silence,after=9", True), ("silence,after=9,ping=0.05", True), ("hang", False)]
)
async def test_an_interrupt_while_the_provider_is_silent_closes_the_connection(
    fault: str, shown: bool, make_faulty: MakeFaulty
) -> None:
    said: list[str] = []
    news = asyncio.Event()

    def report(line: str) -> None:
        said.append(line)
        news.set()

    async def simulator_says(pattern: str, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not any(re.search(pattern, line) for line in said):
                news.clear()
                await news.wait()

    async def on_wire(faulty: FaultyWorld, provider: str) -> None:
        model = story(fault)
        chat_id = await faulty.api.create_chat()
        turn_id = await faulty.api.start(chat_id, "go on", f"{provider}/{model}")
        watcher = Watcher(turn_id)
        awaited = {"block_delta", "block_catchup"} if shown else {"turn_start"}
        await watcher.watch(faulty.api, until=lambda frame: frame.name in awaited)
        path = {"messages": "/messages", "completions": "/chat/completions"}[provider]
        await simulator_says(f"POST /v1{path} model={re.escape(model)}", 5.0)
        status, answer = await faulty.api.call("POST", f"/api/turns/{turn_id}/interrupt")
        assert (status, answer["status"]) == (200, "cancelled")
        await simulator_says(f"POST /v1{path} .*the client went away", 1.0)
        await watcher.watch(faulty.api)
        row = await faulty.api.turn(turn_id)
        assert watcher.terminal_events() == ["turn_cancelled"]
        assert watcher.fold.blocks == stored_blocks(row)
        assert bool(row["blocks"]) == shown
        again = await faulty.api.call("POST", f"/api/turns/{turn_id}/interrupt")
        assert again == (status, answer)
        await faulty.take_next_turn(provider, row)

    async with SimulatorServer(report=report) as upstream:
        faulty = await make_faulty(upstream.url, timeouts=Timeouts(first_token=30, idle=30, total=60))
        await asyncio.gather(*(on_wire(faulty, provider) for provider in WIRES))


@pytest.mark.requirement("D5", "E7")
async def test_a_turn_that_stays_silent_is_ended(make_faulty: MakeFaulty, provider: RunningProcess) -> None:
    """The last resort, where no clock of the provider's own ends it."""
    patient = Timeouts(first_token=600, idle=600, total=600)
    faulty = await make_faulty(provider.url, timeouts=patient, orphan_timeout=0.3)
    for name in WIRES:
        row, watcher = await faulty.take_turn(f"{name}/{story('silence,after=9')}")
        assert row["error"]["code"] == "orphan_timeout"
        assert watcher.fold.blocks == stored_blocks(row)
        await faulty.take_next_turn(name, row)


@pytest.mark.requirement("B4", "B5")
async def test_unusual_text_survives_both_wires(faulty: FaultyWorld) -> None:
    for name in WIRES:
        row, watcher = await faulty.take_turn(f"{name}/thinking:pace=0,chunk=7")
        thought, answer = stored_blocks(row)
        assert (thought.block_type, thought.text_content) == ("thinking", texts.THOUGHT)
        assert (answer.block_type, answer.text_content) == ("text", texts.UNUSUAL)
        assert watcher.fold.blocks == [thought, answer]
