"""Tables from records: the column for a field's type, and unreadable values."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, Table, create_engine, insert, select, text

from turnstream.core.usage import AccountRecord, CallAttempt, Count, Dollars, Moment, StepUsage, Usage
from turnstream.store.base import NOT_NULL, ChatRecord, Identity, TurnRecord
from turnstream.store.mapping import RowMapping


class Size(msgspec.Struct, frozen=True):
    width: int | None = None
    height: int | None = None


class Place(msgspec.Struct, frozen=True):
    country: str = "nowhere"


class MadeUp(msgspec.Struct, frozen=True):
    """A record with a field of each type."""

    id: Identity
    size: Size
    seen: Moment
    number: int
    kind: Literal["one", "two"]
    said: str = ""
    place: Place = Place()
    known: bool = False
    share: float = 0.0
    count: Count = 0
    guess: int | None = None
    ended: Moment | None = None
    price: Dollars | None = None
    extra: dict[str, Any] = {}
    pairs: tuple[tuple[int, int], ...] = ()
    kept: Annotated[tuple[int, ...], NOT_NULL] = ()
    names: tuple[str, ...] | None = None


ROWS = RowMapping(MadeUp)
SAMPLE = MadeUp("a", Size(1, 2), 5, 6, "one")


def table_of(rows: RowMapping[Any]) -> Table:
    return Table("made_up", MetaData(), *rows.columns())


def stored(rows: RowMapping[Any], record: Any, path: Path, **damaged: Any) -> Any:
    """Write a record by the driver, damage columns of its row, and read it."""
    table = table_of(rows)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        table.create(connection)
        places = ", ".join("?" * len(table.columns))
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute(f"INSERT INTO made_up VALUES ({places})", rows.row(record))
        for column, value in damaged.items():
            connection.execute(text(f'UPDATE made_up SET "{column}" = :value'), {"value": value})
        found = rows.record(connection.execute(select(table)).one())
    engine.dispose()
    return found


def test_the_type_of_a_field_decides_its_column() -> None:
    described = {column.name: f"{column.type} {column.nullable}" for column in ROWS.columns()}
    assert described == {
        "id": "VARCHAR(36) False",
        "width": "BIGINT True",
        "height": "BIGINT True",
        "seen": "BIGINT False",
        "number": "BIGINT False",
        "kind": "VARCHAR(16) False",
        "said": "TEXT False",
        "country": "TEXT False",
        "known": "BOOLEAN False",
        "share": "FLOAT False",
        "count": "INTEGER False",
        "guess": "BIGINT True",
        "ended": "BIGINT True",
        "price": "VARCHAR(32) True",
        "extra": "TEXT False",
        "pairs": "TEXT True",
        "kept": "TEXT False",
        "names": "TEXT True",
    }


def test_a_type_without_a_column_is_refused() -> None:
    class Odd(msgspec.Struct):
        places: set[int]

    with pytest.raises(TypeError, match="places"):
        RowMapping(Odd)


@given(
    size=st.builds(Size, st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9)),
    said=st.text(),
    known=st.booleans(),
    guess=st.none() | st.integers(-(2**62), 2**62),
    ended=st.none() | st.integers(0, 2**50),
    extra=st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(0, 9)),
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))).map(tuple),
    kept=st.lists(st.integers(0, 9)).map(tuple),
    names=st.none() | st.lists(st.text(st.characters(codec="utf-8"))).map(tuple),
)
def test_a_record_comes_back_as_it_was_written(**fields: Any) -> None:
    record = msgspec.structs.replace(SAMPLE, **fields)
    table = table_of(ROWS)
    with create_engine("sqlite://").begin() as connection:
        table.create(connection)
        connection.execute(insert(table), ROWS.values(record))
        driver = connection.connection.driver_connection
        assert driver is not None
        places = ", ".join("?" * len(table.columns))
        driver.execute(f"INSERT INTO made_up VALUES ({places})", ROWS.row(record))
        by_statement, by_driver = connection.execute(select(table)).all()
        raw = connection.execute(text("SELECT * FROM made_up")).all()
    assert raw[0] == raw[1]
    assert ROWS.record(by_statement) == ROWS.record(by_driver) == record


@pytest.mark.parametrize(
    ("column", "value", "read"),
    [
        ("said", b"a\xffb", "a\ufffdb"),
        ("said", 7, "7"),
        ("width", "many", Size(None, 2)),
        ("seen", -1, 0),
        ("seen", "never", 0),
        ("ended", 2**62, None),
        ("count", 2**40, 0),
        ("guess", 1.5, None),
        ("number", "many", "many"),
        ("share", "half", 0.0),
        ("pairs", "[[1]]", ()),
        ("pairs", "null", ()),
        ("kept", '"x"', ()),
        ("names", "[1]", None),
        ("extra", "[1", {"unreadable": "the stored value is damaged, or nests too deeply"}),
    ],
)
def test_a_value_that_cannot_be_read_costs_its_own_field(
    tmp_path: Path, column: str, value: Any, read: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    found = stored(ROWS, SAMPLE, tmp_path / "rows.sqlite", **{column: value})
    field = "size" if column == "width" else column
    assert found == msgspec.structs.replace(SAMPLE, **{field: read})
    is_logged = column in {"kept", "names", "extra"} or value == "[[1]]"
    assert caplog.messages == ([f"row a: {column} cannot be read"] if is_logged else [])


TURN = TurnRecord(
    id="t",
    chat_id="c",
    owner="o",
    prev_turn_id=None,
    role="assistant",
    status="complete",
    created_at=1,
    generation=7,
    fences=((1, 2),),
    usage=Usage(1, 2, None, 4),
    steps=(StepUsage(0, "acme/one", Usage(1, 2)),),
    cost="0.000001",
    fallbacks=("a", "b"),
    params={"temperature": 1},
)


@pytest.mark.parametrize(
    ("rows", "record"),
    [
        (RowMapping(TurnRecord), TURN),
        (RowMapping(ChatRecord), ChatRecord("c", "o", None, {"a": [1]}, 1, 2, "t")),
        (RowMapping(CallAttempt), CallAttempt(0, 1, "acme/one", "complete", 5, 1.5, Usage(1), "0.1")),
        (RowMapping(AccountRecord), AccountRecord(usage=Usage(3), cost_estimated=True)),
    ],
)
def test_the_records_of_the_store_come_back(tmp_path: Path, rows: RowMapping[Any], record: Any) -> None:
    assert stored(rows, record, tmp_path / "rows.sqlite") == record


def test_each_turn_is_read_with_few_calls() -> None:
    """Python's time slices: other tasks run while lists of a thousand turns are read."""
    rows = RowMapping(TurnRecord)
    table = table_of(rows)
    with create_engine("sqlite://").begin() as connection:
        table.create(connection)
        connection.execute(insert(table), rows.values(TURN))
        row = connection.execute(select(table)).one()
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        rows.record(row)
    finally:
        sys.setprofile(None)
    assert calls <= 10, calls
