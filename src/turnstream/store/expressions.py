"""Expressions whose SQL differs between databases.

This module compiles them to standard SQL. The folder of a database compiles them to the database's own SQL.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Join
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class ByteLength(FunctionElement[int]):
    """The number of bytes of a text in UTF-8."""

    type = BigInteger()
    inherit_cache = True


@compiles(ByteLength)
def _byte_length(element: ByteLength, compiler: SQLCompiler, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


class DatabaseTime(FunctionElement[int]):
    """The database's time, in microseconds since the epoch.

    All nodes that share a database use this clock for ordering.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseTime)
def _database_time(element: DatabaseTime, compiler: SQLCompiler, **options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) * 1000000 AS BIGINT)"


class MicroDollars(FunctionElement[int]):
    """Millionths of a US dollar, from a decimal number as text. NULL for NULL, and for any other text."""

    type = BigInteger()
    inherit_cache = True


@compiles(MicroDollars)
def _micro_dollars(element: MicroDollars, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(ROUND(CAST({compiler.process(element.clauses, **options)} AS NUMERIC) * 1000000) AS BIGINT)"


class JoinRowByRow(Join):
    """An inner join that looks the rows of the right table up for each row of the left side, by an index.

    Such a join takes as long as the left side has rows, however large the right table is. PostgreSQL would
    read all of a right table that it takes for small.
    """

    inherit_cache = True
