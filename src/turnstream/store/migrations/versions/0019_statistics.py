"""Adds the first output of calls, and an index of answers by owner and time, both for statistics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0017"

_ATTEMPTS = "turnstream_attempts"
_TURNS = "turnstream_turns"
_ANSWERS = sa.text("role <> 'user'")


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(_ATTEMPTS)}
    if "first_output" not in columns:
        op.add_column(_ATTEMPTS, sa.Column("first_output", sa.Float))
    op.create_index(
        f"ix_{_TURNS}_answers",
        _TURNS,
        ["owner", "created_at", "id"],
        if_not_exists=True,
        sqlite_where=_ANSWERS,
        postgresql_where=_ANSWERS,
    )
