"""Connections to PostgreSQL: without state between two transactions, and with a deadline for each answer.

A pooler such as PgBouncer may give each transaction another session of the server. So all settings are those
of a transaction, and statements are prepared only without a pooler.

A transaction begins with one message, which also has its settings.
"""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Connection, Engine, ExceptionContext, QueuePool, create_engine, event

from turnstream.store.database import DRIVER, UPGRADE
from turnstream.store.postgresql.driver import PostgresDriver, driver_connection, drop_detail, execute
from turnstream.store.postgresql.text import adapt_text

Value = TypeVar("Value")

CONNECT_SECONDS = 5
_CHECK_SECONDS = 0.05
"""Seconds between two looks at the deadline of an answer."""
_LONGEST_READ = 60.0
_UPGRADE_LOCK_SECONDS = 1
"""Seconds that an upgrade waits for other transactions on a table. Then it makes room, and is tried again.

All statements of the other nodes on this table wait behind it.
"""
_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WITHOUT_LIMITS = (
    "SELECT set_config(name, '0', true) FROM pg_settings "
    "WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
"""Ends the limits that an operator may give to all transactions. An upgrade of large tables takes longer."""


class StatementLimits(NamedTuple):
    """Deadlines of each statement, in seconds.

    Attributes:
        lock: The server refuses the statement if it cannot lock its rows within this time.
        statement: The server ends the statement after this time.
        idle: The server ends a transaction that has had no statement for this time. So a process that sleeps,
            or has lost the connection, keeps no locks. It is shorter than `lock`, so writes that wait for
            such a lock do not fail.
        answer: The connection is closed if the server has not answered by then.
    """

    lock: float
    statement: float
    idle: float
    answer: float

    @classmethod
    def of_lock(cls, seconds: float) -> StatementLimits:
        """Return limits for statements that may wait `seconds` for a lock.

        The limits of a statement and of its answer are a little longer.
        """
        return cls(seconds, seconds * 1.1, seconds * 0.5, seconds * 1.2)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose statements have a deadline, even if the server is silent.

    Attributes:
        answer_seconds: Seconds that one statement may take. None: without limit.
        give_up_at: Monotonic time after which the connection is closed. Another thread may set it.
    """

    answer_seconds: float | None = None
    give_up_at: float | None = None

    def wait(
        self, gen: PQGen[Value], interval: float = _CHECK_SECONDS, timeout: float | None = None
    ) -> Value:
        return super().wait(self._bounded(gen), min(interval, _CHECK_SECONDS), timeout)

    def _bounded(self, gen: PQGen[Value]) -> Generator[Any, Any, Value]:
        """Yield from `gen`. Raise OperationalError at the deadline."""
        until = None if self.answer_seconds is None else monotonic() + self.answer_seconds
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and self._is_late(until):
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the server does not answer")
                state = gen.send(ready)
        except StopIteration as end:
            return end.value

    def _is_late(self, until: float | None) -> bool:
        give_up_at = self.give_up_at
        now = monotonic()
        return (until is not None and now > until) or (give_up_at is not None and now > give_up_at)


def writer_engine(url: URL, limits: StatementLimits, connections: int) -> Engine:
    """Return an engine for writes. Its transactions see all that was committed before each statement."""
    engine = _engine(url, pool_size=connections)
    begin_write = (
        f"{_WRITE}; SET LOCAL lock_timeout = {_milliseconds(limits.lock)}; "
        f"SET LOCAL statement_timeout = {_milliseconds(limits.statement)}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(limits.idle)}"
    )
    upgrade_lock = _milliseconds(_UPGRADE_LOCK_SECONDS)
    begin_upgrade = f"{_WRITE}; SET LOCAL lock_timeout = {upgrade_lock}; {_WITHOUT_LIMITS}"

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        is_upgrade = connection.get_execution_options().get(UPGRADE, False)
        _bounded_connection(connection).answer_seconds = None if is_upgrade else limits.answer
        execute(connection, begin_upgrade if is_upgrade else begin_write, None)

    return engine


def reader_engine(url: URL, timeout: float, connections: int) -> Engine:
    """Return an engine whose transactions see one state of the database, and cannot write."""
    engine = _engine(url, pool_size=connections, pool_timeout=timeout)
    limits = StatementLimits.of_lock(_LONGEST_READ)
    begin_read = f"{_READ}; SET LOCAL statement_timeout = {_milliseconds(limits.statement)}"

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        bounded = _bounded_connection(connection)
        bounded.answer_seconds, bounded.give_up_at = limits.answer, None
        execute(connection, begin_read, None)

    return engine


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _bounded_connection(connection: Connection) -> BoundedConnection:
    bounded = driver_connection(connection)
    assert isinstance(bounded, BoundedConnection)
    return bounded


def _engine(url: URL, **settings: object) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,  # errors are logged, and rows have users' texts
        execution_options={DRIVER: PostgresDriver()},
        poolclass=QueuePool,
        max_overflow=0,
        connect_args={
            "application_name": "turnstream",
            "client_encoding": "utf8",  # also in a database without an encoding
            "connect_timeout": CONNECT_SECONDS,
            # A peer that is gone is noticed while a statement waits for it.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
        **settings,
    )

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: object, record: object, arguments: list[Any], parameters: dict[str, Any]
    ) -> BoundedConnection:
        # The listeners of "begin" begin transactions.
        connection = BoundedConnection.connect(*arguments, autocommit=True, **parameters)
        connection.answer_seconds = CONNECT_SECONDS
        return connection

    @event.listens_for(engine, "connect")
    def configure(connection: BoundedConnection, _: object) -> None:
        adapt_text(connection)
        if _is_pooled(connection):
            connection.prepare_threshold = None

    @event.listens_for(engine, "handle_error")
    def hide_rows(context: ExceptionContext) -> None:
        error, wrapped = context.original_exception, context.sqlalchemy_exception
        if isinstance(error, psycopg.Error):
            drop_detail(error)
            if wrapped is not None:
                wrapped.args = (f"({type(error).__name__}) {error}",)

    return engine


def _is_pooled(connection: BoundedConnection) -> bool:
    """Return True if a pooler answers in the place of the server: it has its own process ids."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid
