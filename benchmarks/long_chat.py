"""The delay of other streams while a chat of 1,000 turns is read repeatedly, or gets new turns.

One server, in a process of its own, is set up as in `turnstream serve`. This process watches its streams, and
a third process uses the long chat. Windows with and without that use alternate, so both meet the same noise.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import uvloop

from benchmarks.passes import percentile
from benchmarks.processes import LOAD_CORE, SERVER_CORE, Child
from benchmarks.report import Line

TURNS = 1000
TURN_CHARACTERS = 4000
"""Characters of a turn. All turns have 4 MB, as much as the largest models read."""
STREAMS = 20
PACE = 0.02
"""Seconds between two events of a stream."""
SECONDS, QUICK_SECONDS = 4.0, 1.5
PASSES, QUICK_PASSES = 7, 3
GOAL = 1.1
USES: tuple[str, ...] = ("path", "turns", "send")


class Gaps:
    """Seconds between two reads of each of some streams, while it records."""

    def __init__(self) -> None:
        self.found: list[float] = []

    async def watch(self, port: int) -> None:
        chat = (await _ask(port, "POST", "/api/chats", {}))["id"]
        body = {
            "turn_blocks": [{"block_type": "text", "text_content": "hello"}],
            "model": f"sim/story:events=100000,pace={PACE}",
        }
        reader, writer = await _open(port, "POST", f"/api/chats/{chat}/turns?stream=true", body)
        try:
            await reader.readuntil(b"\r\n\r\n")
            before = time.perf_counter()
            while await reader.read(1 << 16):
                now = time.perf_counter()
                self.found.append(now - before)
                before = now
        finally:
            writer.close()

    async def window(self, seconds: float) -> float:
        """Return the p99 of the gaps that end in a window of so many seconds, in milliseconds."""
        self.found.clear()
        await asyncio.sleep(seconds)
        return percentile(self.found, 0.99) * 1000


async def measure(*, quick: bool) -> dict[str, tuple[float, float, float, int]]:
    """Return the results for each use of the long chat. All are medians over the windows.

    They are the p99 without and with the use in milliseconds, the ratio, and the number of uses.
    """
    seconds, passes = (QUICK_SECONDS, QUICK_PASSES) if quick else (SECONDS, PASSES)
    with (
        tempfile.TemporaryDirectory() as folder,
        Child.of_module("benchmarks.long_chat", "upstream", core=LOAD_CORE) as upstream,
        Child.of_module(
            "benchmarks.long_chat", "serve", folder, str(upstream.port), core=SERVER_CORE
        ) as server,
    ):
        port = server.port
        long = (await _ask(port, "GET", "/api/chats"))["chats"][0]
        gaps = Gaps()
        watching = [asyncio.create_task(gaps.watch(port)) for _ in range(STREAMS)]
        await asyncio.sleep(1)
        found: dict[str, list[tuple[float, float]]] = {use: [] for use in USES}
        used = dict.fromkeys(USES, 0)
        for _ in range(passes):
            for use in USES:
                quiet = await gaps.window(seconds)
                user = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "benchmarks.long_chat", "use", str(port), use, json.dumps(long)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                assert user.stdout is not None
                await user.stdout.readline()  # it has begun
                busy = await gaps.window(seconds)
                count, _ = await user.communicate(b"stop\n")
                used[use] += int(count)
                found[use].append((quiet, busy))
                await asyncio.sleep(0.2)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    return {
        use: (
            median(quiet for quiet, _ in pairs),
            median(busy for _, busy in pairs),
            median(busy / quiet for quiet, busy in pairs),
            used[use],
        )
        for use, pairs in found.items()
    }


def run(*, quick: bool) -> Iterator[Line]:
    """Yield all lines of this benchmark."""
    for use, (quiet, busy, ratio, used) in uvloop.run(measure(quick=quick)).items():
        note = f"p99 {quiet:.2f} → {busy:.2f} ms, used {used} times"
        yield Line(
            f"other streams' p99, {TURNS:,} turns: {use}, to without it", ratio, "times", GOAL, note=note
        )


async def answer_models() -> None:
    """Answer each request with one word, as a provider."""
    answer = b"".join(
        b"data: %b\n\n" % piece
        for piece in (
            b'{"choices":[{"index":0,"delta":{"role":"assistant","content":"yes"}}]}',
            b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
            b"[DONE]",
        )
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(asked.partition("content-length: ")[2].partition("\r")[0]))
        writer.write(head + answer)
        writer.close()

    upstream = await asyncio.start_server(answered, "127.0.0.1", 0, limit=1 << 26)
    print("ready", upstream.sockets[0].getsockname()[1], flush=True)
    await upstream.serve_forever()


async def serve(folder: str, upstream: str) -> None:
    """Serve an engine that has one long chat."""
    from turnstream.config import ProviderSettings
    from turnstream.core.blocks import Block
    from turnstream.core.identifiers import new_id
    from turnstream.engine import Engine
    from turnstream.server.uvicorn_server import bind, run_application
    from turnstream.store.base import BlockRecord, TurnRecord
    from turnstream.store.operations.start import StartTurns

    provider = ProviderSettings(wire="openai-chat", base_url=f"http://127.0.0.1:{upstream}/v1")
    engine = Engine(f"sqlite:///{folder}/turns.sqlite", providers={"up": provider})
    bound = bind("127.0.0.1", 0)
    async with engine:
        chat = await engine.commands.chats.create("local")
        before: str | None = None
        for _ in range(TURNS // 2):
            user = TurnRecord(
                id=new_id(),
                chat_id=chat.id,
                owner="local",
                prev_turn_id=before,
                role="user",
                status="complete",
                model=None,
                created_at=0,
                generation=7,
                last_seq=3,
            )
            answer = TurnRecord(
                id=new_id(),
                chat_id=chat.id,
                owner="local",
                prev_turn_id=user.id,
                role="assistant",
                status="complete",
                model=None,
                created_at=0,
                generation=7,
                last_seq=1,
            )
            rows = [
                BlockRecord(new_id(), turn.id, Block(0, "text", "word " * (TURN_CHARACTERS // 5)), 2, 2, 0)
                for turn in (user, answer)
            ]
            start = StartTurns(
                turn_id=answer.id,
                owner="local",
                user_turn=user,
                user_blocks=tuple(rows),
                assistant_turn=answer,
            )
            await engine.commands.store.write(start)
            before = answer.id
        await run_application(
            engine.application(),
            bound,
            drain=engine.drain,
            grace=0,
            on_listening=lambda: print("ready", bound[0].getsockname()[1], flush=True),
        )


async def use_chat(port: int, use: str, chat: dict[str, str]) -> None:
    """Use a long chat until a line comes in. Print the number of uses."""
    print("begun", flush=True)
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    count = 0
    while not told.done():
        if use == "send":
            body = {
                "turn_blocks": [{"block_type": "text", "text_content": "go on"}],
                "prev_turn_id": chat["active_turn_id"],
                "model": "up/any",
            }
            answered = await _ask(port, "POST", f"/api/chats/{chat['id']}/turns", body)
            assert "assistant_turn" in answered, answered
        else:
            reader, writer = await _open(port, "GET", f"/api/chats/{chat['id']}/{use}")
            while await reader.read(1 << 18):
                pass
            writer.close()
        count += 1
    print(count, flush=True)


async def _open(
    port: int, method: str, path: str, body: object = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    payload = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    writer.write(head.encode() + payload)
    return reader, writer


async def _ask(port: int, method: str, path: str, body: object = None) -> dict[str, Any]:
    reader, writer = await _open(port, method, path, body)
    answer = await reader.read(-1)
    writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        uvloop.run(answer_models())
    elif sys.argv[1] == "serve":
        uvloop.run(serve(*sys.argv[2:]))
    else:
        uvloop.run(use_chat(int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])))
