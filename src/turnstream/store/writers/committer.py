"""The part of the writer that runs in its thread: it commits groups of operations as transactions.

A failed transaction is rolled back. The kind of the failure decides what follows:

- The database is lost: the same transaction is repeated until the database is back, or until the limit of an
  outage is reached. The answer to a COMMIT may be lost, so operations may be applied twice. Applying an
  operation again changes nothing, and gives the same result.
- The database preferred another transaction, as after a deadlock: the same transaction is repeated once.
- Any other failure: the group is split into two halves, with all operations of a turn in the same half. Each
  half has its own transaction. So one bad row fails only one turn.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

from sqlalchemy import Connection

from turnstream.errors import RequestError, StoreError
from turnstream.store.base import Operation
from turnstream.store.database import OpenDatabase, describe_failure
from turnstream.store.writers.outage import Outage

logger = logging.getLogger(__name__)

_REFUSALS = (RequestError, StoreError)


class _CannotBegin(Exception):
    """The database cannot begin a transaction, so no operation can be applied."""


class Committer:
    """Commits operations on one connection, which it opens when it needs one. It belongs to one thread."""

    def __init__(self, database: OpenDatabase, outage: Outage) -> None:
        self._database = database
        self._outage = outage
        self._connection: Connection | None = None

    def commit(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Commit the operations. Return an answer for each: a result, a refusal, or a StoreError."""
        conflicts = 0
        while True:
            try:
                with self._outage.attempt():
                    return self._transact(operations)
            except Exception as error:  # noqa: BLE001 - the writer survives any error of an operation
                cannot_begin = isinstance(error, _CannotBegin)
                cause = error.__cause__ if cannot_begin else error
                failure = "refused" if cause is None else self._database.failure_of(cause)
                if failure == "lost" and self._outage.lost(_reason(cause)):
                    continue
                if failure == "conflict" and conflicts == 0:
                    conflicts += 1
                    continue
                if cannot_begin or failure == "lost":
                    return _failures(cause, len(operations))
                return self._halve(operations, cause)

    def tidy(self) -> None:
        """Let the database do its maintenance between two transactions."""
        if self._connection is None:
            return
        try:
            self._database.committed(self._connection)
        except Exception as error:  # noqa: BLE001 - the writer survives any error
            logger.warning("the database could not be tidied between two writes: %s", describe_failure(error))
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection. An open transaction is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _halve(self, operations: Sequence[Operation[Any]], cause: BaseException | None) -> list[Any]:
        """Commit each half of the turns in its own transaction.

        Fail the operations if only one turn is left.
        """
        turns = _by_turn(operations)
        if len(turns) == 1:
            return _failures(cause, len(operations))
        logger.warning("a group of %d turns failed and is halved: %s", len(turns), _reason(cause))
        answers: list[Any] = [None] * len(operations)
        middle = len(turns) // 2
        for half in (turns[:middle], turns[middle:]):
            places = sorted(place for turn in half for place in turn)
            for place, answer in zip(places, self.commit([operations[at] for at in places]), strict=True):
                answers[place] = answer
        return answers

    def _transact(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Apply the operations in one transaction.

        After a failure, the next transaction gets a new connection.
        """
        try:
            if self._connection is None:
                self._connection = self._database.writer.connect()
            transaction = self._connection.begin()
        except Exception as error:
            self.disconnect()
            raise _CannotBegin from error
        owners = {owner for operation in operations if (owner := operation.changed_owner) is not None}
        try:
            if owners:
                self._database.lock_owners(self._connection, owners)
            answers = apply_all(self._connection, operations)
            transaction.commit()
        except BaseException:
            self.disconnect()
            raise
        return answers


def apply_all(connection: Connection, operations: Sequence[Operation[Any]]) -> list[Any]:
    """Apply the operations in their order. Return an answer for each."""
    answers: list[Any] = []
    for together in _neighbours(operations):
        first = together[0]
        if len(together) > 1:
            answers.extend(type(first).apply_many(connection, together))
            continue
        try:
            answers.append(first.apply(connection))
        except _REFUSALS as refusal:
            answers.append(refusal)
    return answers


def _neighbours(operations: Sequence[Operation[Any]]) -> Iterator[Sequence[Operation[Any]]]:
    """Yield consecutive operations of one batched class together, and every other operation alone."""
    start = 0
    while start < len(operations):
        kind = type(operations[start])
        end = start + 1
        while kind.batched and end < len(operations) and type(operations[end]) is kind:
            end += 1
        yield operations[start:end]
        start = end


def _by_turn(operations: Sequence[Operation[Any]]) -> list[list[int]]:
    """Return the indexes of each turn's operations. An operation without a turn is a separate group."""
    turns: dict[str | int, list[int]] = {}
    for place, operation in enumerate(operations):
        turns.setdefault(operation.turn_id or place, []).append(place)
    return list(turns.values())


def _reason(cause: BaseException | None) -> str:
    return "unknown" if cause is None else describe_failure(cause)


def _failures(cause: BaseException | None, count: int) -> list[StoreError]:
    """Return `count` new errors.

    An exception that several tasks raise would collect the tracebacks of all of them.
    """
    return [_failure(cause) for _ in range(count)]


def _failure(cause: BaseException | None) -> StoreError:
    if isinstance(cause, StoreError):
        error = copy(cause)  # without its traceback
    else:
        error = StoreError(f"the write failed: {describe_failure(cause)}" if cause else "no database")
    error.__cause__ = cause
    return error
