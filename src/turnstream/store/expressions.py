"""Expressions that databases spell in their own ways.

Each is standard SQL here; the folder of a database says what the database has instead.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class ByteLength(FunctionElement[int]):
    """The bytes of a text in UTF-8."""

    type = BigInteger()
    inherit_cache = True


@compiles(ByteLength)
def _byte_length(element: ByteLength, compiler: SQLCompiler, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


class DatabaseTime(FunctionElement[int]):
    """The time by the database's clock, in microseconds since the epoch. All nodes of a database order by this one clock."""

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseTime)
def _database_time(element: DatabaseTime, compiler: SQLCompiler, **options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) * 1000000 AS BIGINT)"
