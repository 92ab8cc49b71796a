"""Systems between the upstream and the load: turnstream, and the systems for comparison."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from benchmarks.load import Stream, Tally, request
from benchmarks.processes import LOAD_CORE, ROOT, SERVER_CORE, Child
from benchmarks.server import PROVIDER
from benchmarks.upstream import Load

CONNECT_AT_ONCE = 100
START_SECONDS = 60.0
LITELLM = ROOT / ".tools/litellm/bin/litellm"
"""LiteLLM's proxy, which `make bench` installs."""
LITELLM_START_SECONDS = 300.0
"""Deadline of its start. Its imports take ten seconds on an idle machine, and minutes on a busy one."""

_NGINX = """\
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 600; }}
  }}
}}
"""


_LITELLM = """\
model_list:
  - model_name: "*"
    litellm_params: {{model: "anthropic/*", api_base: "http://127.0.0.1:{upstream}", api_key: none}}
litellm_settings: {{telemetry: false, set_verbose: false}}
general_settings: {{disable_spend_logs: true, dangerously_permit_weak_or_unset_master_key: true}}
"""


class System:
    """Something that answers with a stream. The cost of the process `child` counts."""

    def __init__(self, name: str, child: Child, port: int | None = None) -> None:
        self.name = name
        self.child = child
        self.port = port or child.port

    async def prepare(self, turns: int) -> None:
        """Make what `turns` streams at a time need beforehand."""

    def ask(self, load: Load, number: int) -> bytes:
        """The request that starts stream `number` of a measurement."""
        messages = [{"role": "user", "content": f"stream {number}"}]
        body = {"model": load.model, "max_tokens": 1, "stream": True, "messages": messages}
        return request("POST", "/v1/messages", self.port, msgspec.json.encode(body))


class Turnstream(System):
    """A turnstream server, over HTTP.

    `stores`: False for turns without rows.
    """

    def __init__(self, child: Child, name: str = "turnstream", *, stores: bool = True) -> None:
        super().__init__(name, child)
        self.chats: list[str] = []
        self.stores = stores

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One JSON request."""
        return (await self.call_many(method, [path], body))[0]

    async def call_many(self, method: str, paths: list[str], body: Any = None) -> list[Any]:
        connector = aiohttp.TCPConnector(limit=CONNECT_AT_ONCE)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", connector=connector) as session:

            async def one(path: str) -> Any:
                async with session.request(method, path, json=body) as answer:
                    answer.raise_for_status()
                    return await answer.json() if answer.status != 204 else None

            return await asyncio.gather(*(one(path) for path in paths))

    async def prepare(self, turns: int) -> None:
        missing = turns - len(self.chats)
        if missing > 0:
            made = await self.call_many("POST", ["/api/chats"] * missing, {})
            self.chats.extend(chat["id"] for chat in made)

    def ask(self, load: Load, number: int) -> bytes:
        body = turn_body(load) | ({} if self.stores else {"store": False})
        path = f"/api/chats/{self.chats[number]}/turns?stream=true"
        return request("POST", path, self.port, msgspec.json.encode(body))

    async def start(self, load: Load, number: int = 0) -> str:
        """Start a turn without watchers. Return its id."""
        started = await self.call("POST", f"/api/chats/{self.chats[number]}/turns", turn_body(load))
        return str(started["assistant_turn"]["id"])

    def watch(self, turn_id: str) -> bytes:
        return request("GET", f"/api/turns/{turn_id}/stream", self.port)


class OpenAiTurnstream(Turnstream):
    """A turnstream server, as clients of OpenAI's chat.completions use it."""

    async def prepare(self, turns: int) -> None:
        """A conversation comes with each request."""

    def ask(self, load: Load, number: int) -> bytes:
        return request("POST", "/v1/chat/completions", self.port, _completion(self, load, number))


class LiteLlm(System):
    """LiteLLM's proxy, as clients of OpenAI's chat.completions use it."""

    def ask(self, load: Load, number: int) -> bytes:
        return request("POST", "/v1/chat/completions", self.port, _completion(self, load, number))


def _completion(system: System, load: Load, number: int) -> bytes:
    """Return the body of a request in OpenAI's protocol."""
    body: dict[str, Any] = {
        "model": load.model,
        "max_tokens": 1,
        "stream": True,
        "messages": [{"role": "user", "content": f"stream {number}"}],
    }
    if isinstance(system, Turnstream):
        body |= {"model": f"{PROVIDER}/{load.model}", "store": system.stores}
    return msgspec.json.encode(body)


def turn_body(load: Load) -> dict[str, Any]:
    return {
        "model": f"{PROVIDER}/{load.model}",
        "turn_blocks": [{"block_type": "text", "text_content": "go"}],
    }


WITH_TOOLS = "turnstream, two tools"
"""A server whose turns may call the built-in tools; these turns do not."""


@contextmanager
def running_upstream() -> Iterator[Child]:
    with Child.of_module("benchmarks.upstream", core=LOAD_CORE) as child:
        yield child


@contextmanager
def running_turnstream(upstream: Child, *options: str, directory: str | None = None) -> Iterator[Turnstream]:
    """Yield a fresh server on a fresh database, below `directory` or on disk."""
    with (
        tempfile.TemporaryDirectory(dir=directory) as place,
        Child.of_module("benchmarks.server", str(upstream.port), place, *options, core=SERVER_CORE) as child,
    ):
        yield Turnstream(child, WITH_TOOLS if "--tools" in options else "turnstream")


def memory_directory() -> str | None:
    """Return a folder that is not on a disk, or None if the system has none."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def running_relay(upstream: Child) -> Iterator[System]:
    with Child.of_module("benchmarks.relay", str(upstream.port), core=SERVER_CORE) as child:
        yield System("bare relay", child)


@contextmanager
def running_nginx(upstream: Child) -> Iterator[System]:
    """Yield nginx without buffering, in one process. It must be installed."""
    with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        settings = Path(directory) / "nginx.conf"
        settings.write_text(_NGINX.format(directory=directory, port=port, upstream=upstream.port))
        command = f"echo ready {port}; exec nginx -p {directory} -c {settings}"
        with Child("nginx", ["sh", "-c", command], core=SERVER_CORE) as child:
            yield System("nginx", child)


@contextmanager
def running_litellm(upstream: Child) -> Iterator[System]:
    """Yield LiteLLM's proxy with one worker. It must be installed."""
    with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        settings = Path(directory) / "litellm.yaml"
        settings.write_text(_LITELLM.format(upstream=upstream.port))
        # The tokens of an unpaced answer are alike, which it takes for a fault of the model.
        settled = (
            "LITELLM_LOG=CRITICAL LITELLM_LOCAL_MODEL_COST_MAP=True REPEATED_STREAMING_CHUNK_LIMIT=1000000000"
        )
        command = (
            f"echo ready {port}; exec env {settled} {LITELLM} --config {settings} "
            f"--host 127.0.0.1 --port {port} --num_workers 1 >/dev/null 2>&1"
        )
        with Child("LiteLLM's proxy", ["sh", "-c", command], core=SERVER_CORE) as child:
            _wait_until_listening(port, LITELLM_START_SECONDS)
            yield LiteLlm("LiteLLM's proxy", child)


def _wait_until_listening(port: int, seconds: float) -> None:
    """Raise RuntimeError if nothing listens on a port in time."""
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.2)
    raise RuntimeError(f"nothing listens on port {port} after {seconds:g} s")


@contextmanager
def running_all(
    *, with_direct: bool = False, directory: str | None = None
) -> Iterator[tuple[Child, list[System]]]:
    """Yield the upstream, and all systems in front of it. turnstream is the first."""
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        systems: list[System] = [
            stack.enter_context(running_turnstream(upstream, directory=directory)),
            stack.enter_context(running_turnstream(upstream, "--tools", directory=directory)),
            stack.enter_context(running_relay(upstream)),
        ]
        if shutil.which("nginx"):
            systems.append(stack.enter_context(running_nginx(upstream)))
        if with_direct:
            systems.append(System("direct", upstream))
        yield upstream, systems


async def open_streams(system: System, load: Load, number: int, tally: Tally, first: int = 0) -> list[Stream]:
    """Start streams `first`, `first + 1`, …, and wait until each has brought its first event."""
    await system.prepare(first + number)
    streams: list[Stream] = []
    for start in range(0, number, CONNECT_AT_ONCE):
        some = await asyncio.gather(
            *(Stream.connect(system.port, tally) for _ in range(min(CONNECT_AT_ONCE, number - start)))
        )
        for place, stream in enumerate(some):
            stream.ask(system.ask(load, first + start + place))
        async with asyncio.timeout(START_SECONDS):
            await asyncio.gather(*(stream.begun for stream in some))
        streams.extend(some)
    return streams


async def watch_turn(system: Turnstream, turn_id: str, number: int, tally: Tally) -> list[Stream]:
    """`number` watchers of one turn."""
    streams: list[Stream] = []
    for first in range(0, number, CONNECT_AT_ONCE):
        some = await asyncio.gather(
            *(Stream.connect(system.port, tally) for _ in range(min(CONNECT_AT_ONCE, number - first)))
        )
        for stream in some:
            stream.ask(system.watch(turn_id))
        async with asyncio.timeout(START_SECONDS):
            await asyncio.gather(*(stream.begun for stream in some))
        streams.extend(some)
    return streams


async def end_streams(upstream: Child, streams: list[Stream]) -> None:
    """Make the upstream end all its answers; each stream must end properly."""
    upstream.tell(signal.SIGUSR1)
    async with asyncio.timeout(START_SECONDS):
        await asyncio.gather(*(stream.ended for stream in streams))
    for stream in streams:
        stream.close()
