"""The schema: created, upgraded, refused, and equal to the tables of the code."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, make_url

from tests.store.samples import make_segment, running_turn, save
from turnstream.core.identifiers import new_id
from turnstream.errors import NotFound, StoreError
from turnstream.store.base import ChatRecord
from turnstream.store.journal.queries import Journal
from turnstream.store.migrations import NEWEST, database_revision, upgrade_database
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.deleting import DeleteChat
from turnstream.store.queries import AllBlocks, GetChat, GetTurn
from turnstream.store.schema import PREFIX, VERSION_TABLE, metadata
from turnstream.store.sql import SqlStore


def tables(database: Path) -> set[str]:
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
    connection.close()
    return {name for (name,) in rows}


DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}


def test_a_fresh_database_has_the_tables_of_the_schema(tmp_path: Path):
    database = tmp_path / "a folder" / "that is missing" / "turns.db"
    url = f"sqlite:///{database}"
    assert database_revision(url) is None
    assert upgrade_database(url) == NEWEST
    assert database_revision(url) == NEWEST
    assert tables(database) == {*metadata.tables, VERSION_TABLE}
    assert all(name.startswith(PREFIX) for name in tables(database))


def test_the_migrations_lead_to_the_schema_that_the_code_uses(url: str):
    engine = create_engine(make_url(url).set(drivername=DRIVERS[make_url(url).drivername]))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, metadata) == []
        inspector = inspect(connection)
        for table in metadata.tables.values():
            stored = inspector.get_pk_constraint(table.name)
            assert stored["constrained_columns"] == [column.name for column in table.primary_key]
            for key in inspector.get_foreign_keys(table.name):
                assert key["options"] == {"ondelete": "CASCADE"}
    engine.dispose()


def test_the_newest_revision_is_the_one_named():
    config = Config()
    config.set_main_option("script_location", str(files("turnstream.store.migrations")))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST]


async def test_upgrading_again_changes_nothing(database: Path):
    url = f"sqlite:///{database}"
    store = SqlStore(url)
    await store.open()
    turn = await running_turn(store)
    await store.write(save(turn, 0))
    await store.close()
    assert upgrade_database(url) == NEWEST
    await store.open()
    assert len(await store.read(AllBlocks(turn_id=turn.id))) == 1
    await store.close()


def make_the_first_journal(connection: sqlite3.Connection) -> None:
    """The table up to revision 0004, with a row for each segment."""
    connection.execute(f"DROP TABLE {PREFIX}journal")
    connection.execute(
        f"CREATE TABLE {PREFIX}journal (turn_id VARCHAR(36) NOT NULL, sequence INTEGER NOT NULL, number INTEGER NOT NULL,"
        " block_type VARCHAR(32) NOT NULL, first_seq BIGINT NOT NULL, seq BIGINT NOT NULL, text TEXT NOT NULL, content TEXT,"
        f" PRIMARY KEY (turn_id, sequence, number), FOREIGN KEY(turn_id) REFERENCES {PREFIX}turns (id) ON DELETE CASCADE)"
    )


@pytest.mark.requirement("D5", "P3")
@pytest.mark.parametrize("count", [0, 1, 600])
async def test_what_a_dead_process_journalled_is_kept_by_an_upgrade(database: Path, count: int):
    store = SqlStore(f"sqlite:///{database}")
    await store.open()
    turns = [await running_turn(store) for _ in range(2)]
    await store.close()
    segments = [make_segment(turn, 1, number, f"“{number}”\n") for turn in turns for number in range(count)]
    with sqlite3.connect(database) as connection:
        connection.execute(f"DROP TABLE {PREFIX}approvals")
        make_the_first_journal(connection)
        connection.executemany(
            f"INSERT INTO {PREFIX}journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*fields, None if content is None else msgspec.json.encode(content).decode())
                for *fields, content in random.Random(3).sample(
                    [msgspec.structs.astuple(segment)[:8] for segment in segments], len(segments)
                )
            ],
        )
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0004'")
    connection.close()
    await store.open()
    for turn in turns:
        expected = [segment for segment in segments if segment.turn_id == turn.id]
        assert await store.read(Journal(turn_id=turn.id)) == expected
    await store.close()


async def test_turns_made_before_costs_were_kept_are_read_as_without(database: Path):
    url = f"sqlite:///{database}"
    store = SqlStore(url)
    await store.open()
    turn = await running_turn(store)
    await store.close()
    with sqlite3.connect(database) as connection:
        connection.execute(f"DROP TABLE {PREFIX}approvals")
        connection.execute(f"DROP TABLE {PREFIX}attempts")
        make_the_first_journal(connection)
        for column in ("cost", "cost_estimated", "steps", "asked_model", "fallbacks", "resets"):
            connection.execute(f"ALTER TABLE {PREFIX}turns DROP COLUMN {column}")
        connection.execute(f"ALTER TABLE {PREFIX}chats DROP COLUMN active_turn_id")
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0001'")
    connection.close()
    assert database_revision(url) == "0001"
    await store.open()
    old = await store.read(GetTurn(owner=None, turn_id=turn.id))
    assert (old.cost, old.cost_estimated, old.steps) == (None, False, ())
    assert (old.asked_model, old.fallbacks, old.resets) == (None, None, ())
    await running_turn(store)
    await store.close()
    assert database_revision(url) == NEWEST


@pytest.mark.fault(41)
async def test_chats_made_before_deletion_went_in_portions_are_read_and_deleted(database: Path):
    store = SqlStore(f"sqlite:///{database}")
    await store.open()
    before = await store.read(GetTurn(owner=None, turn_id=(await running_turn(store)).id))
    chat = ChatRecord(new_id(), "ada", "old", {}, 1, 1)
    await store.write(CreateChat(chat=chat))
    await store.close()
    connection = sqlite3.connect(database)
    connection.execute(f"DROP TABLE {PREFIX}approvals")
    connection.execute(f"DROP INDEX ix_{PREFIX}chats_deleted")
    connection.execute(f"ALTER TABLE {PREFIX}chats DROP COLUMN deleted_at")
    connection.execute(f"DROP TABLE {PREFIX}settings")
    connection.execute(f"ALTER TABLE {PREFIX}turns DROP COLUMN settings")
    connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0005'")
    connection.commit()
    connection.close()
    await store.open()
    try:
        assert await store.read(GetChat(owner="ada", chat_id=chat.id)) == chat
        assert await store.read(GetTurn(owner=None, turn_id=before.id)) == before
        assert await store.write(DeleteChat(owner="ada", chat_id=chat.id)) == []
        with pytest.raises(NotFound):
            await store.read(GetChat(owner="ada", chat_id=chat.id))
    finally:
        await store.close()


def test_a_database_from_the_future_is_left_alone(database: Path):
    with sqlite3.connect(database) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    untouched = database.read_bytes()
    with pytest.raises(StoreError, match="newer version of turnstream: upgrade the package"):
        asyncio.run(SqlStore(f"sqlite:///{database}").open())
    with pytest.raises(StoreError, match="newer version"):
        upgrade_database(f"sqlite:///{database}")
    assert database.read_bytes() == untouched


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path):
    file = tmp_path / "letter.txt"
    file.write_text("Dear reader, " * 1000)
    for attempt in (upgrade_database, database_revision):
        with pytest.raises(StoreError, match=r"file is not a database.*give the path of a new file"):
            attempt(f"sqlite:///{file}")
    with pytest.raises(StoreError, match="file is not a database"):
        asyncio.run(SqlStore(f"sqlite:///{file}").open())
    assert file.read_text() == "Dear reader, " * 1000


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path):
    database = tmp_path / "turns.db"
    with sqlite3.connect(database) as connection:
        connection.execute(f"CREATE TABLE {PREFIX}journal (stranger INTEGER)")
    connection.close()
    with pytest.raises(StoreError, match="already exists"):
        upgrade_database(f"sqlite:///{database}")
    assert tables(database) == {f"{PREFIX}journal"}


def test_a_database_that_another_program_holds_is_named_as_such(
    database: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("turnstream.store.migrations._BUSY_TIMEOUT", 0.1)
    outsider = sqlite3.connect(database, isolation_level=None)
    outsider.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"database is locked.*another program holds it; close that one"):
        asyncio.run(SqlStore(f"sqlite:///{database}").open())
    outsider.close()
    assert upgrade_database(f"sqlite:///{database}") == NEWEST


def test_tables_of_an_application_stay_as_they_are(tmp_path: Path):
    database = tmp_path / "host.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('hosts_own')")
        connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()
    upgrade_database(f"sqlite:///{database}")
    assert tables(database) == {*metadata.tables, VERSION_TABLE, "alembic_version", "users"}
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("hosts_own",)]
    connection.close()


@pytest.mark.parametrize("name", ["100% of it; #1.db", "ünïcode ☃.db", "it's.db"])
def test_odd_names_of_files_are_taken_as_they_are(tmp_path: Path, name: str):
    assert upgrade_database(f"sqlite:///{tmp_path / name}") == NEWEST
    assert database_revision(f"sqlite:///{tmp_path / name}") == NEWEST
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.lock"}
