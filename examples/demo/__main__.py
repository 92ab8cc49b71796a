"""`make demo`: the main job, unattended, with what happens printed as it happens.

    provider (a recorded answer) ─► server, a process of its own ─► watcher A, cut in mid-frame, then resumed
                                                                 └► watcher B, who comes late

Ends with exit code 0 only if both watchers and the stored blocks agree, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from examples.demo.server import MODEL, running_server
from examples.demo.upstream import DURATION, Recording, Upstream, made_recording, read_recording
from examples.demo.watcher import Watcher
from turnstream.cli.terminal import bold, dim
from turnstream.core.blocks import Block
from turnstream.errors import TurnstreamError

TIME_LIMIT = 60.0
CUT_AT, RESUME_AFTER, JOIN_AT = 0.35, 0.1, 0.65
"""Parts of the answer's duration."""

_started = time.monotonic()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file",
        nargs="?",
        default=os.environ.get("FILE") or None,
        help="provider bytes to use in place of the simulator's: a recorded response body, .sse, .jsonl or .gz",
    )
    parser.add_argument("--file", dest="named", metavar="FILE", help="the same")
    given = parser.parse_args(arguments)
    file: str | None = given.named or given.file
    try:
        recording = made_recording() if file is None else read_recording(Path(file))
        tell(
            "provider",
            f"{file or 'a recording made with the simulator'}: {recording.wire.name}, {recording.events} events, {len(recording.body):,} bytes, sent over {DURATION:g} s",
        )
        return asyncio.run(_limited(recording))
    except TurnstreamError as error:
        print(f"demo: {error.message}", file=sys.stderr)
    except TimeoutError:
        print(f"demo: not done after {TIME_LIMIT:g} s", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def tell(who: str, what: str) -> None:
    """A line of the story, with the seconds since it began."""
    print(f"{dim(f'{time.monotonic() - _started:6.2f} s')}  {who:<9} {what}", flush=True)


async def _limited(recording: Recording) -> int:
    async with asyncio.timeout(TIME_LIMIT), AsyncExitStack() as held:
        folder = held.enter_context(
            tempfile.TemporaryDirectory(prefix="turnstream-demo-", ignore_cleanup_errors=True)
        )
        upstream = await held.enter_async_context(Upstream(recording))
        server = await held.enter_async_context(
            running_server(Path(folder), recording.wire.name, upstream.url)
        )
        tell("server", f"listens on {server}, with a new database")
        return await _main_job(await held.enter_async_context(aiohttp.ClientSession(base_url=server)))


async def _main_job(session: aiohttp.ClientSession) -> int:
    turn, stream_url = await _start(session)
    loop = asyncio.get_running_loop()
    began = loop.time()

    def due(part: float) -> bool:
        return loop.time() - began >= part * DURATION

    first, late = Watcher(session, stream_url), Watcher(session, stream_url)

    async def watch_and_resume() -> None:
        tell("A", "watches")
        cut = await first.watch_until_cut(lambda: due(CUT_AT))
        tell(
            "A",
            bold(
                f"cut in mid-frame: {cut.received:,} bytes, {len(first.cursors)} whole events, {cut.unfinished} bytes of the next"
            ),
        )
        await asyncio.sleep(RESUME_AFTER * DURATION)
        tell("A", f"resumes after {first.cursors[-1]}")
        seen = len(first.cursors)
        await first.watch()
        tell("A", f"{_ending(first)}, with {len(first.cursors) - seen} events after the cut")

    async def join_late() -> None:
        await asyncio.sleep(JOIN_AT * DURATION)
        tell("B", "joins late")
        await late.watch()
        tell("B", f"{_ending(late)}, with {len(late.cursors)} events in all")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch_and_resume())
        tasks.create_task(join_late())
    stored = [_block(row) for row in (await _get(session, f"/api/turns/{turn}/blocks"))["blocks"]]
    tell("server", f"has {len(stored)} blocks stored")
    return _verdict(first, late, stored)


async def _start(session: aiohttp.ClientSession) -> tuple[str, str]:
    chat = await _post(session, "/api/chats", {})
    question = {"block_type": "text", "text_content": "Tell me something that is hard to carry."}
    body = {"model": MODEL, "turn_blocks": [question]}
    started = await _post(session, f"/api/chats/{chat['id']}/turns", body)
    turn: str = started["assistant_turn"]["id"]
    tell("server", f"turn {turn} has begun")
    return turn, started["stream_url"]


def _ending(watcher: Watcher) -> str:
    ending = watcher.fold.ending
    return "sees no end" if ending is None else f"sees the end ({ending.name})"


def _verdict(first: Watcher, late: Watcher, stored: list[Block]) -> int:
    """Print block by block who has what; 0 if all agree."""
    columns = [
        [_digest(block) for block in blocks] for blocks in (first.fold.blocks, late.fold.blocks, stored)
    ]
    print(f"\n  {'block':<6} {'type':<12} {'length':>7}  {'sha256':<16}  {'A':<3}{'B':<3}stored")
    for place, block in enumerate(max(first.fold.blocks, late.fold.blocks, stored, key=len)):
        digest = _digest(block)
        signs = ["✓" if place < len(column) and column[place] == digest else "✗" for column in columns]
        text = block.text_content
        length = len(text) if text is not None else len(_canonical(block))
        print(
            f"  {block.sequence:<6} {block.block_type:<12} {length:>7}  {digest:<16}  {signs[0]:<3}{signs[1]:<3}{signs[2]}"
        )
    ended = all(watcher.fold.ending is not None for watcher in (first, late))
    faults = [
        *(["the blocks differ"] if columns[0] != columns[2] or columns[1] != columns[2] else []),
        *([] if ended and first.fold.ending == late.fold.ending else ["the ends differ"]),
        *([] if first.in_order and late.in_order else ["an event came twice or out of order"]),
        *([] if stored else ["nothing was stored"]),
    ]
    print(
        f"\n{bold('NOT in agreement')}: {'; '.join(faults)}"
        if faults
        else f"\n{bold('all agree')}: A, who was cut, B, who came late, and the stored blocks"
    )
    return 1 if faults else 0


def _canonical(block: Block) -> bytes:
    value = {
        "sequence": block.sequence,
        "block_type": block.block_type,
        "text_content": block.text_content,
        "content": block.content,
        "partial": block.partial,
    }
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _digest(block: Block) -> str:
    return hashlib.sha256(_canonical(block)).hexdigest()[:16]


def _block(row: dict[str, Any]) -> Block:
    return Block(row["sequence"], row["block_type"], row["text_content"], row["content"], row["partial"])


async def _get(session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with session.get(path) as response:
        response.raise_for_status()
        return await response.json()


async def _post(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(path, json=body) as response:
        response.raise_for_status()
        return await response.json()


if __name__ == "__main__":
    sys.exit(main())
