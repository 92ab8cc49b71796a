"""The writer of the audit log: crashes, full disks, a full queue, two servers (requirement K3)."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from turnstream.audit import trail as trail_module
from turnstream.audit.chain import check_files
from turnstream.audit.records import EMPTY, AuditRecord
from turnstream.audit.trail import AuditTrail
from turnstream.errors import ConfigurationError, Unavailable

pytestmark = pytest.mark.requirement("K3")
SECONDS = 20.0
WRITER = """
import asyncio, sys
from turnstream.audit.records import AuditRecord
from turnstream.audit.trail import AuditTrail

async def main():
    trail = AuditTrail(sys.argv[1], max_bytes=20_000)
    await trail.open()
    number = 0
    while True:
        trail.note(AuditRecord(act="turn.end", details={"number": number}))
        await trail.require(AuditRecord(act="turn.start", details={"number": number}))
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


def records_of(folder: Path) -> list[dict[str, Any]]:
    files = [*sorted(folder.glob("audit.jsonl.0*")), folder / "audit.jsonl"]
    assert check_files(files, after=EMPTY).fault is None
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines() if line[:1] == b"{"]


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file may grow beyond the size that `path` has, which is larger than all others here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def made(folder: Path, records: int = 3) -> AuditTrail:
    trail = AuditTrail(folder / "audit.jsonl", max_bytes=1 << 20)
    await trail.open()
    for _ in range(records):
        await trail.require(AuditRecord(act="turn.start"))
    return trail


@pytest.mark.parametrize("kills", [(1, 40, 3), (17, 2, 90)])
def test_a_chain_survives_kill_9(tmp_path: Path, kills: tuple[int, ...]) -> None:
    durable = 0
    for acts in kills:
        command = [sys.executable, "-c", WRITER, str(tmp_path / "audit.jsonl")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(acts):
                assert process.stdout.readline().strip().isdecimal()
            process.send_signal(signal.SIGKILL)
            left = process.stdout.read()
        durable += acts + left.count("\n")
        acts_seen = [record for record in records_of_killed(tmp_path) if record["act"] == "turn.start"]
        assert len(acts_seen) >= durable
        durable = len(acts_seen)


def records_of_killed(folder: Path) -> list[dict[str, Any]]:
    """The records after the next server has opened the log."""

    async def reopen() -> None:
        trail = AuditTrail(folder / "audit.jsonl", max_bytes=20_000)
        await trail.open()
        await trail.close()

    asyncio.run(reopen())
    return records_of(folder)


async def test_acts_are_refused_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trail_module, "REQUIRE_SECONDS", 0.2)
    monkeypatch.setattr(trail_module, "RETRY_SECONDS", 0.01)
    trail = await made(tmp_path)
    with full_disk(tmp_path / "audit.jsonl"), caplog.at_level(logging.ERROR, "turnstream"):
        trail.note(AuditRecord(act="turn.end", outcome="complete"))
        for _ in range(2):
            with pytest.raises(Unavailable, match="nothing is done without a record") as refused:
                await trail.require(AuditRecord(act="turn.start", owner="refused"))
            assert refused.value.code == "audit_unavailable"
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1
    async with asyncio.timeout(SECONDS):
        await trail.require(AuditRecord(act="turn.start", owner="later"))
    await trail.close()
    records = records_of(tmp_path)
    acts = [record["act"] for record in records]
    assert acts.count("turn.end") == 1
    assert [record["owner"] for record in records if "owner" in record] == ["later"]
    (resumed,) = (record for record in records if record["act"] == "audit.resumed")
    assert resumed["details"]["refused"] == 2


async def test_an_act_waits_until_the_disk_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "RETRY_SECONDS", 0.01)
    trail = await made(tmp_path)
    with full_disk(tmp_path / "audit.jsonl"):
        act = asyncio.create_task(trail.require(AuditRecord(act="chat.delete")))
        async with asyncio.timeout(SECONDS):
            while trail._failing_since is None:  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0)
        assert not act.done()
    async with asyncio.timeout(SECONDS):
        await act
    await trail.close()
    assert "chat.delete" in [record["act"] for record in records_of(tmp_path)]


async def test_a_full_queue_refuses_acts_at_once_and_keeps_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "CAPACITY", 5)
    monkeypatch.setattr(trail_module, "RETRY_SECONDS", 0.01)
    trail = await made(tmp_path)
    with full_disk(tmp_path / "audit.jsonl"):
        for number in range(8):
            trail.note(AuditRecord(act="turn.end", details={"number": number}))
        async with asyncio.timeout(1.0):
            with pytest.raises(Unavailable):
                await trail.require(AuditRecord(act="turn.start", owner="refused"))
    await trail.close()
    records = records_of(tmp_path)
    assert [r["details"]["number"] for r in records if r["act"] == "turn.end"] == [*range(8)]
    assert "owner" not in {key for record in records for key in record}


async def test_records_that_cannot_be_written_at_the_end_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trail_module, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(trail_module, "RETRY_SECONDS", 0.01)
    trail = await made(tmp_path)
    with full_disk(tmp_path / "audit.jsonl"):
        trail.note(AuditRecord(act="turn.end"))
        await trail.close()
    assert "2 records of the audit log" in caplog.text
    assert (await reopened(tmp_path))[-1]["act"] == "audit.closed"


async def reopened(folder: Path) -> list[dict[str, Any]]:
    await (await made(folder, 0)).close()
    return records_of(folder)


async def test_two_servers_do_not_write_one_file(tmp_path: Path) -> None:
    trail = await made(tmp_path)
    with pytest.raises(ConfigurationError, match="is written by another server: stop it, or give"):
        await AuditTrail(tmp_path / "audit.jsonl", max_bytes=1 << 20).open()
    await trail.require(AuditRecord(act="turn.start"))
    await trail.close()
    await (await made(tmp_path, 1)).close()
    assert [record["act"] for record in records_of(tmp_path)].count("audit.opened") == 2


async def test_refused_keys_of_a_second_are_one_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = await made(tmp_path, 0)
    for _ in range(1000):
        trail.note_refused_key("127.0.0.1")
    await trail.close()
    refused = [record for record in records_of(tmp_path) if record["act"] == "access.refused"]
    assert [record["details"]["count"] for record in refused] == [1, 999]


async def test_texts_are_short_and_without_keys(tmp_path: Path) -> None:
    trail = AuditTrail(
        tmp_path / "audit.jsonl", max_bytes=1 << 20, mask=lambda text: text.replace("sk-1234567", "[masked]")
    )
    await trail.open()
    long = "x" * 5000
    await trail.require(AuditRecord(act="tool.run", owner="sk-1234567", tool=long, details={"model": long}))
    await trail.close()
    record = records_of(tmp_path)[1]
    assert record["owner"] == "[masked]"
    assert len(record["tool"]) < 250
    assert "sha256" in record["details"]["model"]
