"""`turnstream serve --workers`: several nodes behind one address."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection
from pathlib import Path

import aiohttp
import psutil
import psycopg
import pytest

from tests.nodes.process_control import kill, terminate
from tests.postgresql import PostgresServer

DEADLINE = 60.0


def serve(url: str) -> list[str]:
    return [
        sys.executable, "-m", "turnstream.cli.main",
        "serve", "--port", "0", "--workers", "2", "--drain-seconds", "0", "--database-url", url,
    ]  # fmt: skip


async def address(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        while line := await process.stdout.readline():
            if found := re.search(rb"listens on .*?(http://[^\s\x1b]+)", line):
                return found[1].decode()
    raise AssertionError("the server has ended")


def joined(url: str, known: Collection[int], count: int) -> list[int]:
    """Return the process ids of running nodes, without the known ones, once there are `count`.

    Raises TimeoutError.
    """
    until = time.monotonic() + DEADLINE
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < until:
            rows = connection.execute(
                "SELECT address FROM turnstream_nodes WHERE state = 'running'"
            ).fetchall()
            pids = {int(re.findall(r"\d+", row[0])[-1]) for row in rows} - {*known}
            if len(pids) >= count:
                return sorted(pids)
    raise TimeoutError(f"{count} more nodes did not join")


async def test_workers_are_nodes_and_one_that_dies_is_replaced(
    postgres: PostgresServer, postgres_template: str, tmp_path: Path
):
    url = postgres.database(postgres_template)
    environment = {**os.environ, "TURNSTREAM_AUDIT__PATH": str(tmp_path / "audit.jsonl")}
    process = await asyncio.create_subprocess_exec(*serve(url), stdout=PIPE, env=environment)
    try:
        at = await address(process)
        pids = await asyncio.to_thread(joined, url, (), 2)
        assert process.pid not in pids
        # A worker that dies within five seconds counts as one that cannot start, which ends the command. The
        # system reports the start of a process only to the second.
        await asyncio.to_thread(lives_for, pids[0], 8.0)
        kill(pids[0])
        await asyncio.to_thread(joined, url, pids, 1)
        async with aiohttp.ClientSession() as session, session.get(f"{at}/readyz") as response:
            assert response.status == 200
        terminate(process.pid)
        async with asyncio.timeout(DEADLINE):
            await process.communicate()
        assert process.returncode == 0
        assert await asyncio.to_thread(names_in, tmp_path) == ["audit-0.jsonl", "audit-1.jsonl"]
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.jsonl"))


def lives_for(pid: int, seconds: float) -> None:
    """Return once a process is that old."""
    born = psutil.Process(pid).create_time()
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(pid).wait(max(0.01, born + seconds - time.time()))


@pytest.mark.parametrize("more", [[], ["--workers", "0"]])
async def test_workers_that_cannot_serve_are_refused_with_the_remedy(more: list[str], tmp_path: Path):
    process = await asyncio.create_subprocess_exec(
        *serve(f"sqlite:///{tmp_path / 'turns.sqlite'}"), *more, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(DEADLINE):
        _, said = await process.communicate()
    assert process.returncode == 2
    assert b"Traceback" not in said
    if more:
        assert b"give --workers 1 or more" in said
    else:
        assert b"leave --workers out" in said
        assert b"postgresql://" in said
