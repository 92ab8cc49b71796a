"""Adds the mark of turns whose end the host application's hook has not seen yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_TURNS = "turnstream_turns"
_AWAITS = sa.text("awaits_hook IS NOT NULL")


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if "awaits_hook" not in {column["name"] for column in inspector.get_columns(_TURNS)}:
        op.add_column(_TURNS, sa.Column("awaits_hook", sa.Boolean))
    op.create_index(
        f"ix_{_TURNS}_awaits_hook",
        _TURNS,
        ["id"],
        if_not_exists=True,
        sqlite_where=_AWAITS,
        postgresql_where=_AWAITS,
    )
