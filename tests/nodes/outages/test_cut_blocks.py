"""A whole turn whose connection to PostgreSQL is cut around the COMMIT of each of its blocks, and of a tool's
start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.conftest import session  # noqa: F401 - a fixture
from tests.faults.tools import read_notes
from tests.faults.watching import Api, stored_blocks
from tests.nodes.cluster import Cluster
from tests.nodes.proxy import TcpProxy
from tests.nodes.triggers import AtMessage
from tests.nodes.witnesses import PROTOCOLS, NativeWitness, ResponseWitness, UiWitness, Witness
from tests.postgresql import PostgresServer
from turnstream.config import NodeSettings

SECONDS = 60.0
MODEL = "sim/agent:pace=0.001"
"""Two steps: thoughts and text, two calls of tools at once, their results, and the answer."""
BLOCKS = b"INSERT INTO turnstream_blocks"
STARTED_TOOLS = b"INSERT INTO turnstream_tool_runs"
LEASE = 20.0
"""Seconds. The cuts must not cost the node its lease on a slow machine: then other tests' subject begins."""


@pytest.mark.requirement("C3", "P3", "Q7")
@pytest.mark.parametrize("moment", ["before", "within", "after"])
async def test_a_cut_at_the_commit_of_each_block_changes_nothing_of_the_turn(
    postgres: PostgresServer,
    postgres_template: str,
    postgres_proxy: TcpProxy,
    session: aiohttp.ClientSession,  # noqa: F811 - the fixture
    tmp_path: Path,
    moment: Any,
) -> None:
    """Each turn meets one cut: the first at the start of its tools, the second at the question's block, the
    third at its own first block, and so on.

    Half of the watchers are on a node whose own connections are whole.
    """
    database = postgres.database(postgres_template)
    notes = tmp_path / "notes"
    notes.touch()
    options = {"tool_notes": notes, "protocols": PROTOCOLS, "nodes": NodeSettings(lease=LEASE)}
    behind_proxy = Cluster(postgres.address_at(database, postgres_proxy.port), tmp_path / "behind")
    direct = Cluster(database, tmp_path / "direct")
    for cluster in (behind_proxy, direct):
        cluster.folder.mkdir()
    async with (
        asyncio.timeout(SECONDS),
        behind_proxy.node(**options) as one,
        direct.node(**options) as two,
    ):
        owner, other = Api(one.url, session), Api(two.url, session)
        fault = postgres_proxy.arm(AtMessage(b"COMMIT", moment, STARTED_TOOLS))
        blocks = await _check_turn(owner, other, read_notes_of=notes)
        assert fault.fired.is_set()
        cuts = 0
        while cuts <= blocks:
            fault = postgres_proxy.arm(AtMessage(b"COMMIT", moment, BLOCKS, cuts + 1))
            blocks = await _check_turn(owner, other, read_notes_of=notes)
            assert fault.fired.is_set(), f"the cut {cuts} of {blocks + 1} did not happen"
            cuts += 1
        assert blocks >= 8, "several blocks, and a tool"
        print(f"{cuts} cuts {moment} the commit of a block, in as many turns of {blocks} blocks")


async def _check_turn(owner: Api, other: Api, *, read_notes_of: Path) -> int:
    """Run a turn on a node, with watchers on two. Return the number of its blocks."""
    chat = await owner.create_chat()
    turn = await owner.start(chat, "hello", MODEL)
    natives = [(NativeWitness(turn), owner), (NativeWitness(turn), other)]
    witnesses: list[tuple[Witness, Api]] = [
        (UiWitness(turn, chat, 5), owner),
        (UiWitness(turn, chat, 7), other),
        (ResponseWitness(turn, chat), owner),
        (ResponseWitness(turn, chat), other),
    ]
    await asyncio.gather(*(witness.watch(api) for witness, api in (*natives, *witnesses)))
    row = await owner.turn(turn)
    assert row == await other.turn(turn)
    assert (row["status"], row["error"]) == ("complete", None)
    stored = stored_blocks(row)
    assert [block.sequence for block in stored] == list(range(len(stored)))
    for native, _ in natives:
        assert native.terminal_events() == ["turn_complete"], native.frames[-1]
        assert native.fold.blocks == stored
        assert native.stopped == {block.sequence: block for block in stored}, "each was shown complete"
        ids = [tuple(map(int, frame.id.split("-"))) for frame in native.frames]
        assert ids == sorted(ids), "ids only grow"
        seqs = [number for _, number in ids]
        assert len(set(seqs)) == len(seqs), "no event came twice"
        assert len({generation for generation, _ in ids}) == 1, "no other executor took the turn over"
    for witness, api in witnesses:
        assert witness.ended, witness.name
        assert witness.error is None, (witness.name, witness.error)
        assert witness.connections == 1
        await witness.check(api, row, stored)
    calls = {(block.content or {})["tool_use_id"] for block in stored if block.block_type == "tool_use"}
    notes = read_notes(read_notes_of)
    began = {call.tool_use_id: count for call, count in notes.began.items() if call.turn_id == turn}
    assert began == dict.fromkeys(calls, 1), "each tool ran once"
    assert not notes.unfinished
    return len(stored)
