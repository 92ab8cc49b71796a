"""Expressions whose SQL differs between databases.

This module compiles them to standard SQL. The folder of a database compiles them to the database's own SQL.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
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
