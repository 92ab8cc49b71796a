"""A new field of a turn takes three files and a migration. The test follows the page that says so to the
letter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import pages
from turnstream.store.migrations import NEWEST

PAGE = pages.DOCS / "explanation" / "fields-of-a-turn.md"
SOURCE = pages.PROJECT / "src" / "turnstream"
PROGRAM = """
import asyncio, json, sys
from tests.server.live import Client, Watcher, serving
from turnstream.engine import Engine

async def main() -> None:
    async with serving(Engine(f"sqlite:///{sys.argv[1]}").application()) as port:
        client = Client(port)
        first = await client.start("hello", model="sim/echo:pace=0", **json.loads(sys.argv[2]))
        await Watcher(client, first).watch_to_the_end()
        turn = (await client.call("GET", f"/turns/{first}")).json
        blocks = [{"block_type": "text", "text_content": "and now?"}]
        body = {"turn_blocks": blocks, "prev_turn_id": first}
        answer = await client.call("POST", f"/chats/{turn['chat_id']}/turns", body)
        second = answer.json["assistant_turn"]["id"]
        await Watcher(client, second).watch_to_the_end()
        print(json.dumps([turn, (await client.call("GET", f"/turns/{second}")).json]))

asyncio.run(main())
"""


def changes(section: str) -> list[pages.Fence]:
    """Return the `diff` blocks below a heading."""
    lines = PAGE.read_text().splitlines()
    begin = lines.index(f"## {section}")
    end = next(place for place in range(begin + 1, len(lines)) if lines[place].startswith("## "))
    return [fence for fence in pages.fences(PAGE, "diff") if begin < fence.line <= end]


def changed(fence: pages.Fence, root: Path) -> Path:
    """Apply a `diff` block. Return the file. The lines of its context occur there once."""
    head, *lines = fence.text.splitlines()
    path = root / head.removeprefix("+++ ")
    before = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
    after = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
    text = path.read_text() if path.exists() else ""
    assert not before or text.count(before) == 1, f"{fence}: {path.name} does not have these lines once"
    path.write_text(text.replace(before, after) if before else after)
    return path


@pytest.mark.parametrize(
    ("section", "given", "shown"),
    [
        ("Add a field", {}, {"failed_calls": 0}),
        ("Add a field of the request", {"purpose": "a test"}, {"purpose": "a test"}),
    ],
)
def test_a_new_field_takes_three_files_and_a_migration(
    tmp_path: Path, section: str, given: dict[str, str], shown: dict[str, object]
) -> None:
    shutil.copytree(SOURCE, tmp_path / "src" / "turnstream", ignore=shutil.ignore_patterns("__pycache__"))
    *files, migration = [changed(fence, tmp_path) for fence in changes(section)]
    assert len({*files}) == 3
    following = f"{int(NEWEST) + 1:04}"
    text = migration.read_text().replace("0041", NEWEST).replace("0042", following)
    migration.rename(migration.with_name(migration.name.replace("0042", following))).write_text(text)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'src'}{os.pathsep}{pages.PROJECT}"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "turns.sqlite"), json.dumps(given)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    for turn in json.loads(ran.stdout):
        assert turn["status"] == "complete"
        assert shown.items() <= turn.items()


@pytest.mark.parametrize(
    ("field", "declared"),
    [
        ("cost_estimated", "core/usage.py"),
        ("steps", "core/usage.py"),
        ("stop_reason", "store/base.py"),
        ("started_at", "store/base.py"),
        ("asked_model", "store/base.py"),
        ("fallbacks", "store/base.py"),
        ("active_turn_id", "store/base.py"),
    ],
)
def test_the_store_and_its_tables_name_a_field_once(field: str, declared: str) -> None:
    """Names in a field's own operations do not count: a time that is set once, steps that are stored one by
    one, the branch that a chat shows, a conversation of an agent's page, announcements to an owner's
    watchers, the cost of a made title, and counts of statistics."""
    progress, announced = {"store/operations/progress.py"}, {"store/announcements.py"}
    titles = {"store/operations/titles.py"}
    chat = {"store/operations/chats.py", "store/operations/deleting.py"}
    own = {
        "started_at": progress,
        "steps": progress | titles,
        "cost_estimated": titles,
        "asked_model": announced,
        "active_turn_id": chat | announced | {"store/agent_rows.py"},
        "fallbacks": {"store/statistics/grouping.py", "store/statistics/query.py"},
    }
    naming = {
        str(path.relative_to(SOURCE))
        for path in (SOURCE / "store").rglob("*.py")
        if re.search(rf"\b{field}\b", path.read_text()) and "migrations" not in path.parts
    }
    assert naming - own.get(field, set()) <= {declared}
    assert re.search(rf"^    {field}: ", (SOURCE / declared).read_text(), re.MULTILINE)
